// The weights of the echo U-Net (Ferreira et al., Nat Commun 16, 4070, 2025), laid out for bfloat16
// products.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cpu/nn/buffer.h"
#include "cpu/nn/kernels.h"
#include "cpu/nn/weights.h"

namespace fastseg::cpu::echo_unet {

inline constexpr int64_t levels = 5;          // resolutions, the finest first
inline constexpr int64_t smallest_side = 16;  // and what sides are multiples of
inline constexpr int64_t largest_side = 2048;
inline constexpr int64_t frame_channels = 4;  // of an input frame; the last ones are empty
inline constexpr int64_t most_classes = 16;

// A matrix whose rows are the channels of neighbours: of each map that is read, for each row of
// neighbours, its channels from left to right, padded to 32.
struct Layer {
    int64_t neighbours = 1;  // 3 of 3 x 3, or 1
    int64_t columns = 0;     // a multiple of 16
    int64_t steps = 0;       // of 32 rows
    nn::Buffer kernel;       // [32 * steps, columns] in format b
    std::vector<float> bias;
};

// Steps that a row of neighbours takes in a map.
constexpr int64_t steps_across(int64_t neighbours, int64_t channels) {
    return (neighbours * channels + 31) / 32;
}

// The reason why the kernel does not support a network of such sizes; empty if it does.
std::string unsupported_reason(int64_t width, int64_t channels, int64_t classes, int64_t side);

struct Model {
    // `table` must have bfloat16 operands. Malformed weights throw std::invalid_argument.
    Model(const nn::Weights& weights, int64_t side, const nn::KernelTable& table);

    int64_t side_of(int64_t level) const { return side >> level; }
    int64_t width_of(int64_t level) const { return width << level; }

    const nn::KernelTable& table;
    int64_t side, channels, width, classes;
    Layer down[levels][2];
    Layer up[levels - 1][2];  // to even and odd rows; columns are x % 2, channel
    Layer merge[levels - 1][2];
    Layer head;
};

}  // namespace fastseg::cpu::echo_unet
