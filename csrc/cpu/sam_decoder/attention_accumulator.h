// What the tokens of a prompt have seen of a part of the image: weighted sums, not yet divided.
#pragma once

#include "cpu/sam_decoder/model.h"

namespace fastseg::cpu::sam_decoder {

class Sight {
  public:
    Buffer means;  // [256, padded rows] of the image, or in the first layer [padded rows, 128]
    Buffer reference, sums, factors;  // see OnlineSoftmax
    bool empty = true;                // whether means are still to be written for the first time

    Sight() = default;
    // `raw` if it is of the image itself, not of values that it was projected to.
    Sight(const Model& model, int64_t tokens, bool raw);
    // Nothing seen yet, for at most the tokens that it was made for.
    void clear(const Model& model, int64_t tokens);
    // Means times the factors of their rows.
    void rescale(const Model& model, int64_t tokens);
    // Add what was seen of another part. What comes of it depends on the order of the parts.
    void join(const Model& model, Sight& part, int64_t tokens);
    // What was seen, [tokens, 128] with the values' bias; `floats` is scratch of 256 * padded rows.
    void finish(const Model& model, const Look& look, int64_t tokens, float* seen, float* floats);

  private:
    bool raw_ = false;
};

}  // namespace fastseg::cpu::sam_decoder
