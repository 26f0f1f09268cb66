// The token side of a prompt in the low-rank form, see low_rank_weights.h: the small matrices that
// its tiles are multiplied by. Rows are the tokens of a head but its origin, head by head, and then
// that of all origins.
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

    // The rows of a prompt of so many tokens.
    static int64_t rows_of(int64_t tokens) { return heads * (tokens - 1) + 1; }
    int64_t rows() const { return rows_of(tokens_); }
    // The tokens of a head but its origin.
    int64_t others() const { return tokens_ - 1; }
    const float* origin_values(int layer) const {
        return values[layer].floats() + others() * inner;
    }

    // [tokens, 128] of both layers, less the origin's; the origin's own values come last.
    Buffer keys[2], values[2];
    Buffer queries;      // of the last `set_queries`
    Buffer second_keys;  // [8 * others, rows] of the second layer's image-to-token attention
    // [8 * others, rows] of inner products: of values of the first layer, and behind the first norm
    // of both. A product with itself holds both of its halves in the upper one.
    Buffer gram1, gram11, gram12, gram22;
    Buffer origin12;  // [rows] of the origins of the second layer and of the middle shift
    float squares1 = 0, squares11 = 0, squares22 = 0;  // of the origins
    // Queries times the keys that the rows of either layer make: [rows of queries, rows].
    Buffer folded[2];
    Buffer upscale[2];  // [256, rows]

  private:
    void set_first_layer(const Model& model, float* floats);
    void set_second_layer(const Model& model, float* floats);
    // matrix [count, 128] times the values of a layer: [count, rows].
    void spread(const Model& model, const Buffer& matrix, int64_t count, int layer,
                float* to) const;
    // x [of_x, 128] times columns of the spread [128, rows], head by head: [8 * of_x, rows].
    void contract(const Model& model, const Buffer& x, int64_t of_x, const float* spread,
                  const Buffer& to) const;
    // Inner products of a layer's values with themselves, of which `matrix` holds those of its
    // projections; returns those of the origins.
    float set_products(const Model& model, const Buffer& matrix, int layer, const Buffer& to,
                       float* floats) const;
    // Double what lies right of the blocks of the heads, in place of what lies left of them.
    void fold(float* gram) const;
    // What the rows add to the values of the last attention.
    void set_final_values(const Model& model, float* floats);

    int64_t tokens_ = 0;
    Buffer transposed_[2];                 // [128, tokens] the values
    Buffer final_keys_[2];                 // [128, rows]
    Buffer second_values_, final_values_;  // [rows, 128], [2 * rows, 128]
};

}  // namespace fastseg::cpu::sam_decoder
