// Prompts on one image, decoded together: by one thread, or tile by tile by several.
#pragma once

#include <memory>

#include "cpu/sam_decoder/decoder.h"
#include "cpu/sam_decoder/tile_cursor.h"

namespace fastseg::cpu::sam_decoder {

class PromptBatch {
  public:
    // Prompts whose tokens are multiplied together: weights are read once for all of them.
    static constexpr int64_t max_prompts = 16;
    // Prompts that read a tile of the image while it is in the cache.
    static constexpr int64_t prompts_a_tile = 4;

    // Parts of the image with an accumulator of their own, for any number of threads.
    static int64_t parts(const Model& model);

    virtual ~PromptBatch() = default;

    // Null results are not written.
    virtual void run(const PromptImage& image, const float* points, const int32_t* labels,
                     int64_t count, const DecodeResult& out, int64_t prompt_state_size,
                     const MasksAbove& masks) = 0;
};

// For at most `largest` prompts of `tokens` tokens each, `low_rank` if they take that form.
// `draws` if `run` is to draw masks.
std::unique_ptr<PromptBatch> make_prompt_batch(const Model& model, bool low_rank, int64_t largest,
                                               int64_t tokens, bool draws, int threads);

}  // namespace fastseg::cpu::sam_decoder
