// Attention with decomposed relative positions in float32, within windows or over the whole image.
//
// Queries lie along the lanes of a vector. Logits are products of keys and a panel of queries; a
// softmax runs down their columns in place, and the weights are the panel by which values are
// multiplied. No row of a logit is ever longer than the keys that fit the first-level cache.
#pragma once

#include "cpu/sam_encoder/model.h"

namespace fastseg::cpu::sam_encoder {

class DenseAttention {
  public:
    explicit DenseAttention(const Model& model);

    // A token's queries, keys or values of all heads, and the bias to be added.
    struct Projected {
        int64_t token;
        const float *row, *bias;
    };

    // Keys and values of padding around the image; before a windowed layer's tokens are taken.
    void fill_padding(const Layer& layer, int threads) const;
    void take_queries(const Layer& layer, const Projected& projected) const;
    void take_keys(const Layer& layer, const Projected& projected) const;
    void take_values(const Layer& layer, const Projected& projected) const;

    // The result of the attention, to [tokens, width].
    void attend(const Layer& layer, float* to, int threads) const;

  private:
    class Worker;

    const TokenSquares& squares(const Layer& layer) const {
        return layer.windowed ? model_.windows : model_.whole;
    }
    // Of a square: keys of which a step is made, floats of all values, and the place of a slot's.
    int64_t keys_at_once(const TokenSquares& s) const;
    int64_t value_floats(const TokenSquares& s) const;
    float* value_at(const TokenSquares& s, int64_t square, int64_t slot) const;

    const Model& model_;
    const nn::DenseKernels& kernels_;
    const int64_t value_rows_;  // channels of a head, padded to a block of sums
    // Of every square of every head:
    Buffer queries_;  // [room / columns, channels, columns]
    Buffer keys_;     // [room, channels]
    Buffer values_;   // [parts, value_rows, keys_at_once]
};

}  // namespace fastseg::cpu::sam_encoder
