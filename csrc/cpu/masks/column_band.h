// Some columns of a mask's logits, each of them contiguous.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "common/logit_stencil.h"
#include "kernels.h"

namespace fastseg::cpu {

class ColumnBand {
  public:
    // `low` is the size of the logits.
    explicit ColumnBand(Size low)
        : low_(low), stride_(low.height + room), values_(static_cast<size_t>(held * stride_)) {}

    // Start another mask, of which rows [begin, end) are needed.
    void open(const float* logits, int64_t begin, int64_t end) {
        logits_ = logits;
        begin_ = begin;
        end_ = end;
        first_ = -held;
    }

    // Columns `first` and the next two, `stride` apart. The last column and row of the logits are
    // repeated behind the border.
    const float* take(int64_t first) {
        if (first < first_ || first + taps > first_ + held) fill(first);
        return values_.data() + (first - first_) * stride_;
    }

    int64_t stride() const { return stride_; }

  private:
    static constexpr int64_t held = 32, room = taps - 1;

    void fill(int64_t first) {
        first_ = first;
        const int64_t there = std::min(held, low_.width - first);
        for (int64_t y = begin_; y < end_ + room; ++y) {
            const float* row = logits_ + std::min(y, low_.height - 1) * low_.width + first;
            float line[held];
            for (int64_t i = 0; i < there; ++i) line[i] = finite(row[i]);
            std::fill(line + there, line + held, line[there - 1]);
            float* value = values_.data() + y;
            for (int64_t i = 0; i < held; ++i) value[i * stride_] = line[i];
        }
    }

    Size low_;
    const float* logits_ = nullptr;
    int64_t begin_ = 0, end_ = 0, first_ = 0;
    int64_t stride_;
    std::vector<float> values_;  // [held, stride]
};

}  // namespace fastseg::cpu
