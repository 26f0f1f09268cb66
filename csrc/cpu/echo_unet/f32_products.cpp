#include "cpu/echo_unet/f32_products.h"

#include <algorithm>

namespace fastseg::cpu::echo_unet {
namespace {

constexpr int64_t points = nn::winograd_points;

// Floats of the points of `count` tiles of so many channels.
int64_t size_of(const nn::DenseKernels& kernels, int64_t channels, int64_t count) {
    return points *
           (rounded_up(count, kernels.rows) * (channels + stride_padding) + stride_padding);
}

nn::WinogradTiles tiles(const nn::DenseKernels& kernels, float* memory, int64_t held,
                        int64_t channels, int64_t side, int64_t first, int64_t count) {
    return {tiles_across(side),
            first,
            count,
            channels,
            memory,
            size_of(kernels, held, count) / points,
            held + stride_padding};
}

}  // namespace

void Scratch::reserve(int64_t values_wanted, int64_t sums_wanted) {
    if (values_size < values_wanted) values = nn::float_buffer(values_size = values_wanted);
    if (sums_size < sums_wanted) sums = nn::float_buffer(sums_size = sums_wanted);
}

void multiply(const nn::DenseKernels& kernels, const Matrices& layer, int64_t matrix,
              const Lines& a, const LineSums& sums, bool add) {
    for (int64_t panel = 0; panel < layer.panels; ++panel)
        for (int64_t each = 0; each < a.lines; ++each)
            kernels.panel_gemm(
                {a.first + each * a.line, a.pixel, a.pixels, layer.in, layer.panel(matrix, panel),
                 sums.first + each * sums.line + panel * layer.columns, sums.pixel, add, nullptr});
}

TileProducts::TileProducts(const nn::DenseKernels& kernels, const Scratch& scratch,
                           const Matrices& layer, int64_t side, int64_t first, int64_t count)
    : kernels(kernels),
      layer(layer),
      values(tiles(kernels, scratch.values.floats(), layer.in, layer.in, side, first, count)),
      sums(tiles(kernels, scratch.sums.floats(), layer.padded(), layer.out, side, first, count)) {}

int64_t TileProducts::values_size(const nn::DenseKernels& kernels, const Matrices& layer,
                                  int64_t count) {
    return size_of(kernels, layer.in, count);
}

int64_t TileProducts::sums_size(const nn::DenseKernels& kernels, const Matrices& layer,
                                int64_t count) {
    return size_of(kernels, layer.padded(), count);
}

void TileProducts::multiply(int64_t point, int64_t first, int64_t last) const {
    const float* a = values.values + point * values.point;
    float* c = sums.values + point * sums.point;
    for (int64_t panel = first; panel < last; ++panel)
        kernels.panel_gemm({a, values.tile, values.count, layer.in, layer.panel(point, panel),
                            c + panel * layer.columns, sums.tile, false,
                            panel + 1 < last ? layer.panel(point, panel + 1) : nullptr});
}

int64_t block_tiles(const nn::DenseKernels& kernels, const Matrices& layer) {
    constexpr int64_t least = 18, most = 96;  // from least on, rows of products fill their blocks
    const int64_t balanced = layer.in * layer.out / (layer.in + layer.out);
    return std::clamp(balanced, least, most) / kernels.rows * kernels.rows;
}

}  // namespace fastseg::cpu::echo_unet
