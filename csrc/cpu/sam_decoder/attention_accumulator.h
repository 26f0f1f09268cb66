// The accumulator of an online softmax: the attention of a prompt's tokens to a part of the image,
// not yet divided by the sum of the weights.
#pragma once

#include "cpu/sam_decoder/model.h"

namespace fastseg::cpu::sam_decoder {

class AttentionAccumulator {
  public:
    // What is weighted: values of 16 channels a head, or the image tokens themselves, see TilePass.
    enum class Form { projected, folded };

    Buffer weighted_values;  // [256, padded rows], or [padded rows, 128] of projected values
    Buffer weighted_rows;    // [columns, rows]
    Buffer running_max, running_sums, rescale_factors;  // see OnlineSoftmax
    bool empty = true;  // true until weighted_values are written for the first time

    AttentionAccumulator() = default;
    // `columns` of further rows that are weighted alike, see LowRankPass.
    AttentionAccumulator(const Model& model, int64_t tokens, Form form, int64_t columns = 0);
    // Start again, for at most the number of tokens that it was made for.
    void reset(const Model& model, int64_t tokens);
    void rescale(const Model& model, int64_t tokens);
    // Add the accumulator of another part. The rounding depends on the order of the parts.
    void merge(const Model& model, AttentionAccumulator& part, int64_t tokens);
    // Divide by the sums of the weights.
    void divide(const Model& model, int64_t tokens);
    // The projected values, [tokens, 128].
    void read_values(int64_t tokens, float* to) const;
    // The result, [tokens, 128] with the values' bias; `floats` is scratch of 256 * padded rows.
    void finish(const Model& model, const TokenToImageAttention& attention, int64_t tokens,
                float* attended, float* floats);

  private:
    Form form_ = Form::projected;
    int64_t columns_ = 0;
};

}  // namespace fastseg::cpu::sam_decoder
