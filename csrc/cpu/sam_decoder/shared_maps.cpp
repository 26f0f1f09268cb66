#include "cpu/sam_decoder/shared_maps.h"

#include <algorithm>

#include "cpu/sam_decoder/image_state.h"

namespace fastseg::cpu::sam_decoder {
namespace {

constexpr int64_t n = tile_size;

template <class Float>
BasicSharedMaps<Float> divide(Float* tile) {
    constexpr int64_t step = inner * n;
    Float* upscaled = tile + 6 * step;
    Float* values = upscaled + width * n;
    Float* sums = values + 2 * step;
    return {tile,
            tile + step,
            tile + 2 * step,
            tile + 3 * step,
            tile + 4 * step,
            tile + 5 * step,
            upscaled,
            values,
            values + step,
            sums,
            sums + n,
            sums + 2 * n};
}

// Subtract the mean over the channels; `squares` [tile] of the result.
void centre(float* x, float* squares) {
    double sums[n] = {}, of_squares[n] = {};
    for (int64_t at = 0; at < width * n; ++at) sums[at % n] += x[at];
    for (int64_t at = 0; at < width * n; ++at) {
        x[at] = static_cast<float>(x[at] - sums[at % n] / width);
        of_squares[at % n] += static_cast<double>(x[at]) * x[at];
    }
    std::copy_n(of_squares, n, squares);
}

}  // namespace

int64_t shared_tile_floats(const Model& model) {
    return model.table.bf16 ? 0 : (shared_rows + shared_sums) * n;
}

SharedMaps shared_maps(const Model& model, const std::byte* state, int64_t tile) {
    const auto* first =
        reinterpret_cast<const float*>(state + model.tiles() * state_tile_bytes(model));
    return divide(first + tile * shared_tile_floats(model));
}

void fill_shared_maps(const Model& model, const float* image, float* to, float* floats) {
    const LowRankWeights& weights = model.low_rank;
    const BasicSharedMaps<float> maps = divide(to);
    const std::vector<float>& scale = model.layers[0].image_to_token.norm.scale;
    float *centred = floats, *middle = floats + width * n;
    for (int64_t at = 0; at < width * n; ++at)
        centred[at] = image[at] + weights.input_shift[static_cast<size_t>(at / n)];
    centre(centred, maps.squares);
    double along[n] = {};
    for (int64_t at = 0; at < width * n; ++at) {
        const size_t channel = static_cast<size_t>(at / n);
        middle[at] = centred[at] * scale[channel];
        along[at % n] += static_cast<double>(middle[at]) * weights.middle_shift[channel];
    }
    std::copy_n(along, n, maps.middle_shift);
    centre(middle, maps.middle_squares);
    const int64_t rows = shared_rows - 2 * inner;
    model.table.gemm_f32(
        {weights.shared.floats(), width, centred, n, to, n, rows, n, width, false});
    for (const auto& [first, values] :
         {std::pair{rows, maps.values}, std::pair{rows + inner, maps.final_values}}) {
        model.table.gemm_f32({weights.shared.floats() + first * width, width, centred, n, middle, n,
                              inner, n, width, false});
        model.table.transpose(middle, inner, n, n, values, inner);
    }
}

}  // namespace fastseg::cpu::sam_decoder
