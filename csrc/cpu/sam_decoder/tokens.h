// The token side of the decoder in float32: a batch of prompts on one image, rows of 256.
#pragma once

#include "cpu/sam_decoder/model.h"

namespace fastseg::cpu::sam_decoder {

// x = norm(x) over each of `rows` rows of 256.
void normalise(const Norm& norm, float* x, int64_t rows);

// The tokens of `prompts` prompts, `tokens` each, from layer to layer.
class Tokens {
  public:
    Tokens(const Model& model, int64_t prompts, int64_t tokens);

    int64_t prompts() const { return prompts_; }
    int64_t tokens() const { return tokens_; }

    // Set the output tokens, then `points` [prompts, tokens - 5, 2] in pixels with their labels.
    void embed(const float* points, const int32_t* labels);
    // Self-attention and its norm.
    void self_attend(const Layer& layer, bool first);
    // Project the tokens, with or without their positions: [prompts * tokens, 128].
    const float* project_with_positions(const Linear& linear);
    const float* project(const Linear& linear);
    // Add the result of a token-to-image attention [prompts * tokens, 128], normalise, then the
    // MLP.
    void add_attention(const Layer& layer, const float* attended);
    // Drop all but the output tokens, which take the final attention.
    void keep_output_tokens();
    // Add the result of the final attention for `count` prompts from `first` on, and normalise.
    void add_final_attention(const float* attended, int64_t first, int64_t count);
    // Their IoU predictions [count, 4] and mask vectors [count, 4, 32].
    void read_heads(int64_t first, int64_t count, float* ious, float* vectors);

  private:
    // y [rows, out] = x [rows, in] times the matrix, and its bias.
    void apply(const Linear& linear, const float* x, int64_t rows, float* y);
    // Add to rows of the state from `first` on.
    void add(const Linear& linear, const float* x, int64_t first, int64_t rows);
    const float* with_positions();

    const Model& model_;
    int64_t prompts_, tokens_;
    Buffer state_, prompt_, positioned_, query_, key_, value_, wide_, out_, scratch_;
};

}  // namespace fastseg::cpu::sam_decoder
