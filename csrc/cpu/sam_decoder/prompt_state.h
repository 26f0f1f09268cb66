// The state of a decoded prompt from which its image tokens can be made again.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

#include "cpu/sam_decoder/model.h"

namespace fastseg::cpu::sam_decoder {

// Floats: the number of tokens; 1 with a mask prompt; for both layers the keys and the values
// [tokens, 128] to which the image attends; with a mask prompt its [16, grid * grid], see
// shrink_mask_row.
template <class Float>
class BasicPromptState {
  public:
    explicit BasicPromptState(Float* data) : data_(data), tokens_(static_cast<int64_t>(data[0])) {}
    BasicPromptState(Float* data, int64_t tokens) : data_(data), tokens_(tokens) {}

    // `mask_tokens` is the number of image tokens with a mask prompt, and 0 without.
    static int64_t size(int64_t tokens, int64_t mask_tokens) {
        return 2 + 4 * tokens * inner + mask_channels * mask_tokens;
    }

    // The number of tokens, if the data were written by a decoder of this grid.
    static int64_t check(const float* data, int64_t length, int64_t image_tokens) {
        const bool masked = length >= 2 && data[1] == 1.0f;
        const float tokens = length >= 2 ? data[0] : 0.0f;
        if (!(tokens >= static_cast<float>(output_count) && tokens < 1e6f) ||
            size(static_cast<int64_t>(tokens), masked ? image_tokens : 0) != length)
            throw std::invalid_argument("image_tokens of " + std::to_string(length) +
                                        " floats a prompt were not made by this decoder");
        return static_cast<int64_t>(tokens);
    }

    void write_header(bool masked) const {
        data_[0] = static_cast<float>(tokens_);
        data_[1] = masked ? 1.0f : 0.0f;
    }

    int64_t tokens() const { return tokens_; }
    bool masked() const { return data_[1] == 1.0f; }
    Float* keys(int layer) const { return data_ + 2 + 2 * layer * tokens_ * inner; }
    Float* values(int layer) const { return keys(layer) + tokens_ * inner; }
    Float* mask() const { return keys(2); }

  private:
    Float* data_;
    int64_t tokens_;
};

using PromptState = BasicPromptState<float>;
using ConstPromptState = BasicPromptState<const float>;

}  // namespace fastseg::cpu::sam_decoder
