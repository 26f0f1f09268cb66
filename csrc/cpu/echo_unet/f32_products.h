// Products of a layer in float32: rows of pixels, or tiles at a point, times its matrices.
#pragma once

#include <cstdint>

#include "cpu/echo_unet/f32_model.h"
#include "cpu/nn/conv_kernels.h"

namespace fastseg::cpu::echo_unet {

// What keeps strides from being powers of two, which would evict each other from the first-level
// cache.
inline constexpr int64_t stride_padding = 16;

inline int64_t rounded_up(int64_t size, int64_t step) {
    return (size + step - 1) / step * step;
}

inline int64_t tiles_across(int64_t side) {
    return (side + nn::winograd_tile - 1) / nn::winograd_tile;
}

// Operands and sums of products.
struct Scratch {
    nn::Buffer values, sums;
    int64_t values_size = 0, sums_size = 0;  // in floats

    void reserve(int64_t values_wanted, int64_t sums_wanted);
};

// Rows of pixels.
struct Lines {
    const float* first;
    int64_t pixel, line;  // floats from one to the next
    int64_t pixels, lines;
};

// Where sums [lines, pixels, padded columns] go.
struct LineSums {
    float* first;
    int64_t pixel, line;
};

// sums = a times one of the matrices, or += it.
void multiply(const nn::DenseKernels& kernels, const Matrices& layer, int64_t matrix,
              const Lines& a, const LineSums& sums, bool add);

// Tiles of a convolution: their values at the points, and the products of those.
struct TileProducts {
    TileProducts(const nn::DenseKernels& kernels, const Scratch& scratch, const Matrices& layer,
                 int64_t side, int64_t first, int64_t count);

    // Floats of scratch that `count` tiles take.
    static int64_t values_size(const nn::DenseKernels& kernels, const Matrices& layer,
                               int64_t count);
    static int64_t sums_size(const nn::DenseKernels& kernels, const Matrices& layer, int64_t count);

    // Sums at a point, of panels of the layer's matrix from `first` to `last`.
    void multiply(int64_t point, int64_t first, int64_t last) const;

    const nn::DenseKernels& kernels;
    const Matrices& layer;
    nn::WinogradTiles values, sums;
};

// Tiles that a thread takes at a time: so many that operands and sums are as large as the matrices,
// which every block reads from the start.
int64_t block_tiles(const nn::DenseKernels& kernels, const Matrices& layer);

}  // namespace fastseg::cpu::echo_unet
