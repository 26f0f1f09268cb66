// The weights of the echo U-Net laid out for bfloat16 products.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/echo_unet/sizes.h"
#include "cpu/nn/buffer.h"
#include "cpu/nn/kernels.h"
#include "cpu/nn/weights.h"

namespace fastseg::cpu::echo_unet {

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

struct Model : Sizes {
    // `table` must have bfloat16 operands. Malformed weights throw std::invalid_argument.
    Model(const nn::Weights& weights, const Sizes& sizes, const nn::KernelTable& table);

    const nn::KernelTable& table;
    Layer down[levels][2];
    Layer up[levels - 1][2];  // to even and odd rows; columns are x % 2, channel
    Layer merge[levels - 1][2];
    Layer head;
};

}  // namespace fastseg::cpu::echo_unet
