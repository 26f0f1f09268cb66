// The token side of the decoder in float32: a group of prompts on one image, rows of 256.
#pragma once

#include "cpu/sam_decoder/model.h"

namespace fastseg::cpu::sam_decoder {

// x = norm(x) over each of `rows` rows of 256.
void normalise(const Norm& norm, float* x, int64_t rows);

// The tokens of `prompts` prompts, `tokens` each, on their way through the layers.
class Tokens {
  public:
    Tokens(const Model& model, int64_t prompts, int64_t tokens);

    int64_t prompts() const { return prompts_; }
    int64_t tokens() const { return tokens_; }

    // Begin: output tokens, then `points` [prompts, tokens - 5, 2] in pixels with their labels.
    void embed(const float* points, const int32_t* labels);
    // Attend to each other and normalise.
    void attend(const Layer& layer, bool first);
    // Project tokens and prompt: [prompts * tokens, 128].
    const float* project_placed(const Linear& linear);
    const float* project(const Linear& linear);
    // Add what was seen [prompts * tokens, 128], normalise, then the MLP.
    void take_in(const Layer& layer, const float* seen);
    // Drop all but the output tokens, which take the last look.
    void keep_outputs();
    // The last of these for `count` prompts from `first` on, whose rows of `seen` are given, and
    // their IoU predictions [count, 4] and mask vectors [count, 4, 32].
    void take_in_last(const float* seen, int64_t first, int64_t count);
    void read(int64_t first, int64_t count, float* ious, float* vectors);

  private:
    // y [rows, out] = x [rows, in] times the matrix, and its bias.
    void apply(const Linear& linear, const float* x, int64_t rows, float* y);
    // Add to rows of the state from `first` on.
    void add(const Linear& linear, const float* x, int64_t first, int64_t rows);
    const float* place();

    const Model& model_;
    int64_t prompts_, tokens_;
    Buffer state_, prompt_, placed_, query_, key_, value_, wide_, out_, scratch_;
};

}  // namespace fastseg::cpu::sam_decoder
