// Linear layers in float32: a matrix packed once, and its products with rows of tokens.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/sam_encoder/model.h"

namespace fastseg::cpu::sam_encoder {

using nn::k_block;

// A matrix [in, out] as [in / 256, out / columns, 256, columns], the last part of 256 being as long
// as what is left. `out` is a multiple of the columns of a panel.
Buffer pack_panels(const nn::DenseKernels& kernels, const float* from, int64_t in, int64_t out);

// Rows of tokens with their channels in blocks: [channels / 256, room, 256].
class RowBlocks {
  public:
    RowBlocks(int64_t room, int64_t channels)
        : room_(room),
          data_(nn::float_buffer((channels + k_block - 1) / k_block * room * k_block)) {}

    int64_t step() const { return room_ * k_block; }  // floats between blocks of a row
    float* at(int64_t row, int64_t block = 0) const {
        return data_.floats() + block * step() + row * k_block;
    }
    // Copy a row of `width` channels.
    void take(int64_t row, const float* from, int64_t width) const {
        for (int64_t c = 0; c < width; c += k_block)
            std::copy(from + c, from + std::min(c + k_block, width), at(row, c / k_block));
    }

  private:
    int64_t room_;
    Buffer data_;
};

// Sums of rows in panels of columns, [columns / panel, room, panel]: a product writes a panel from
// its first to its last value, which caches like best.
class PanelSums {
  public:
    PanelSums(const nn::DenseKernels& kernels, int64_t room, int64_t columns)
        : room_(room), width_(kernels.columns), data_(nn::float_buffer(room * columns)) {}

    float* panel(int64_t column) const { return data_.floats() + column * room_; }
    // Gather `columns` sums of a row.
    void row(int64_t row, int64_t columns, float* to) const {
        const float* from = data_.floats() + row * width_;
        for (int64_t c = 0; c < columns; c += width_) std::copy_n(from + c * room_, width_, to + c);
    }

  private:
    int64_t room_, width_;
    Buffer data_;
};

// The part of a linear layer that a product takes: its inputs from a block of k_block channels on,
// and some of its outputs, whole panels.
struct LinearPart {
    const Linear& linear;
    int64_t first_block, blocks;
    int64_t first_column, columns;
};

inline LinearPart outputs_of(const Linear& linear, int64_t first_column, int64_t columns) {
    return {linear, 0, (linear.in + k_block - 1) / k_block, first_column, columns};
}

inline LinearPart whole(const Linear& linear) {
    return outputs_of(linear, 0, linear.out);
}

// sums [rows, part.columns] = a times a part of a matrix, or += it. Blocks of `a` are those of the
// part. Rows are written up to the next multiple of kernels.rows.
void multiply(const nn::DenseKernels& kernels, const RowBlocks& a, int64_t rows,
              const LinearPart& part, const PanelSums& sums, bool add);

}  // namespace fastseg::cpu::sam_encoder
