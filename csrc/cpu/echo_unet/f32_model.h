// The weights of the echo U-Net laid out for float32 products.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/echo_unet/sizes.h"
#include "cpu/nn/buffer.h"
#include "cpu/nn/kernels.h"
#include "cpu/nn/weights.h"

namespace fastseg::cpu::echo_unet {

// The matrices [in, out] of a layer: at each point of Winograd's convolution, of each row of
// neighbours, or of each of the 2 x 2 pixels that a transposed convolution makes.
struct Matrices {
    Matrices() = default;
    Matrices(const nn::DenseKernels& kernels, int64_t count, int64_t in, int64_t out);

    float& at(int64_t matrix, int64_t row, int64_t column) const {
        return panel(matrix, column / columns)[row * columns + column % columns];
    }
    float* panel(int64_t matrix, int64_t index) const {
        return data.floats() + (matrix * panels + index) * in * columns;
    }
    int64_t padded() const { return panels * columns; }  // out

    int64_t count = 0, in = 0, out = 0;
    int64_t columns = 0, panels = 0;  // of a panel, and of a matrix; the last one has zeros
    nn::Buffer data;
    std::vector<float> bias;
};

struct ModelF32 : Sizes {
    // `table` must have float32 operands. Malformed weights, and those that are not finite, throw
    // std::invalid_argument.
    ModelF32(const nn::Weights& weights, const Sizes& sizes, const nn::KernelTable& table);

    const nn::KernelTable& table;
    Matrices down[levels][2];  // the first of all by rows of neighbours
    Matrices up[levels - 1];
    Matrices merge[levels - 1][2];
    Matrices head;
};

}  // namespace fastseg::cpu::echo_unet
