// The token side of the decoder in float32: a batch of prompts on one image, rows of 256.
#pragma once

#include <vector>

#include "cpu/sam_decoder/model.h"
#include "cpu/support/team.h"

namespace fastseg::cpu::sam_decoder {

// x = norm(x) over each of `rows` rows of 256.
void normalise(const Norm& norm, double epsilon, float* x, int64_t rows);

// The tokens of `prompts` prompts, `tokens` each, from layer to layer. The team shares the columns
// of large matrices.
class Tokens {
  public:
    Tokens(const Model& model, int64_t prompts, int64_t tokens, Team& team);

    int64_t prompts() const { return prompts_; }
    int64_t tokens() const { return tokens_; }

    // Set the fixed tokens, then `points` [prompts, tokens - fixed, 2] in pixels with their labels.
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
    // Add the results of the final attention [rows, 128] to the output tokens of these rows,
    // outputs * prompt + token, and normalise them.
    void add_final_attention(const float* attended, const std::vector<int64_t>& rows);
    // The IoU predictions [4] of each of these prompts, to `ious` [prompts, 4].
    void read_ious(const std::vector<int64_t>& prompts, float* ious);
    // The vector [32] of one mask of each of these prompts, to `vectors` [prompts, 4, vector].
    void read_vectors(const std::vector<int64_t>& prompts, int64_t slot, float* vectors);
    // That of SAM-HQ's further mask, to the second half of all vectors of a prompt.
    void read_hq_vectors(const std::vector<int64_t>& prompts, float* vectors);

  private:
    // y [rows, out] = x [rows, in] times the matrix, and its bias.
    void apply(const Linear& linear, const float* x, int64_t rows, float* y);
    // Add to rows of the state from `first` on.
    void add(const Linear& linear, const float* x, int64_t first, int64_t rows);
    const float* with_positions();
    // A head on one token of some prompts; result i goes to `to` + prompt * stride.
    void read(const Head& head, int64_t token, const std::vector<int64_t>& prompts, float* to,
              int64_t size, int64_t stride);

    const Model& model_;
    Team& team_;
    int64_t prompts_, tokens_;
    Buffer state_, prompt_, positioned_, query_, key_, value_, wide_, out_, scratch_;
};

}  // namespace fastseg::cpu::sam_decoder
