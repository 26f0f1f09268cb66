// The token side of a prompt in the low-rank form, see low_rank_weights.h: the small matrices that
// its tiles are multiplied by. A row of them is a token of a head, head by head.
#pragma once

#include "cpu/sam_decoder/attention_accumulator.h"
#include "cpu/sam_decoder/model.h"

namespace fastseg::cpu::sam_decoder {

class LowRankPrompt {
  public:
    LowRankPrompt() = default;
    // As those of TilePrompt.
    LowRankPrompt(const Model& model, int64_t most);
    static int64_t scratch_floats(const Model& model, int64_t most);
    void set_keys_values(const Model& model, int layer, const float* keys, const float* values,
                         int64_t tokens, float* floats);
    void set_queries(const Model& model, Stage stage, const float* queries, int64_t tokens,
                     float* floats);
    void set_upscaling(const Model& model);
    void finish(const Model& model, Stage stage, AttentionAccumulator& accumulator, int64_t tokens,
                float* attended, float* floats) const;

    int64_t rows() const { return heads * tokens_; }

    // [tokens, 128] of both layers, and the queries of the last `set_queries`.
    Buffer keys[2], values[2], queries;
    Buffer gram1;                   // [rows, rows] of the first layer's values
    Buffer second_keys;             // [rows, rows] of the second layer's image-to-token attention
    Buffer gram11, gram12, gram22;  // [rows, rows] behind the first norm
    // Queries times the keys that the rows of either layer make: [rows of queries, rows].
    Buffer folded[2];
    Buffer upscale[2];  // [256, rows]

  private:
    // matrix [count, 128] times the values of a layer: [count, rows].
    void spread(const Model& model, const Buffer& matrix, int64_t count, int layer,
                float* to) const;
    // x [of_x, 128] times columns of the spread [128, rows], head by head: [8 * of_x, rows].
    void contract(const Model& model, const Buffer& x, int64_t of_x, const float* spread,
                  const Buffer& to) const;
    // For each row, the product of its values with a vector [128].
    float along(int layer, const Buffer& vector, int64_t row) const;
    // Add a term to the columns of one head: its weights sum to one.
    void add_to_head(float* row, float term) const;

    int64_t tokens_ = 0;
    Buffer transposed_[2];                 // [128, tokens] the values
    Buffer final_keys_[2];                 // [128, rows]
    Buffer second_values_, final_values_;  // [rows, 128], [2 * rows, 128]
};

}  // namespace fastseg::cpu::sam_decoder
