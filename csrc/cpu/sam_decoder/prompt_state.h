// What is kept of a decoded prompt: enough to make its image tokens again.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

#include "cpu/sam_decoder/model.h"

namespace fastseg::cpu::sam_decoder {

// Floats: the number of tokens, 1 with a mask prompt; for both layers the keys and the values
// [tokens, 128] that the image was sent; with a mask prompt its [16, grid * grid], see shrink_mask.
template <class Float>
class BasicPromptState {
  public:
    explicit BasicPromptState(Float* data) : data_(data), tokens_(static_cast<int64_t>(data[0])) {}
    BasicPromptState(Float* data, int64_t tokens) : data_(data), tokens_(tokens) {}

    // `places` is 0 without a mask prompt.
    static int64_t size(int64_t tokens, int64_t places) {
        return 2 + 4 * tokens * inner + mask_channels * places;
    }

    // The number of tokens, if this is a memory that some decoder of this grid wrote.
    static int64_t check(const float* data, int64_t length, int64_t places) {
        const bool masked = length >= 2 && data[1] == 1.0f;
        const float tokens = length >= 2 ? data[0] : 0.0f;
        if (!(tokens >= static_cast<float>(outputs) && tokens < 1e6f) ||
            size(static_cast<int64_t>(tokens), masked ? places : 0) != length)
            throw std::invalid_argument("image_tokens of " + std::to_string(length) +
                                        " floats a prompt were not made by this decoder");
        return static_cast<int64_t>(tokens);
    }

    void begin(bool masked) const {
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
