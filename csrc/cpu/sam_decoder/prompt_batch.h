// Prompts on one image, decoded together: by one thread, or tile by tile by several.
#pragma once

#include <memory>
#include <vector>

#include "cpu/sam_decoder/canvas_head.h"
#include "cpu/sam_decoder/decoder.h"
#include "cpu/sam_decoder/mask_head.h"
#include "cpu/sam_decoder/prompt_state.h"
#include "cpu/sam_decoder/tile_pass.h"
#include "cpu/sam_decoder/tokens.h"

namespace fastseg::cpu::sam_decoder {

class PromptBatch {
  public:
    // Prompts whose tokens are multiplied together: weights are read once for all of them.
    static constexpr int64_t max_prompts = 16;
    // Prompts that read a tile of the image while it is in the cache.
    static constexpr int64_t prompts_a_tile = 4;

    // Parts of the image with an accumulator of their own, for any number of threads.
    static int64_t parts(const Model& model);

    // Of at most `largest` prompts of `tokens` tokens each. `draws` if `run` is to draw masks.
    PromptBatch(const Model& model, int64_t largest, int64_t tokens, bool draws, int threads);

    // `state` is of the image that these prompts are on. Null results are not written.
    void run(const std::byte* state, const float* points, const int32_t* labels, int64_t count,
             const DecodeResult& out, int64_t prompt_state_size, const MasksAbove& masks);

  private:
    // Of a token-to-image attention, see tile_pass.h.
    enum Form { projected, folded };

    struct Prompt {
        TokenQueries queries[2];
        AttentionAccumulator accumulator[2];
        TokenKeysValues keys_values[2];
    };

    struct ThreadScratch {
        ThreadScratch(const Model& model, int64_t tokens) : tile_pass(model, tokens), head(model) {}
        TilePass tile_pass;
        MaskHead head;
    };

    struct TileCursor {
        ConstStateTile image;
        int64_t tile, slot, valid;
        bool ends_span;
    };

    struct PromptRange {
        int64_t first, end;
    };

    // Output tokens of a prompt, in order.
    using ChosenTokens = std::vector<int64_t>;

    // The final attention of a few prompts, their scores and, if wanted, their masks.
    void finish_prompts(const std::byte* state, Tokens& rows, PromptRange range,
                        const DecodeResult& out, const MasksAbove& masks);
    // In float32 a score is read before the mask tokens attend: those of masks below the threshold
    // never do. Their attention then reads the image tokens that wait for `draw`.
    void attend_masks_above(const std::byte* state, Tokens& rows, PromptRange range,
                            const DecodeResult& out, float threshold);
    void set_final_queries(int64_t index, const ChosenTokens& chosen);
    // Add the final attention of some of the prompts' output tokens.
    void add_final_attention(Tokens& rows, PromptRange range, const ChosenTokens& chosen);
    // The slots of the masks whose predicted IoU [4] is above the threshold.
    static std::vector<int64_t> slots_above(const float* ious, float threshold);
    // The masks of the prompts whose score is high enough.
    void draw(const std::byte* state, PromptRange range, const DecodeResult& out,
              const MasksAbove& masks);
    std::byte* image_tokens(int64_t index, int64_t tile) const;

    // Visit every tile for every prompt, part by part, and merge the parts' accumulators.
    template <class Visit>
    void attend(const std::byte* state, PromptRange range, Form form, int64_t tokens,
                const Visit& visit);
    template <class Visit>
    void for_tiles(const std::byte* state, TileRange tiles, int64_t prompts,
                   const Visit& visit) const;
    // Call visit(scratch, part, tiles) for every part of the image, by all threads.
    template <class Visit>
    void for_parts(const Visit& visit);
    template <class Visit>
    void for_prompt_ranges(int64_t count, const Visit& visit);
    AttentionAccumulator& partial(Form form, int64_t part, int64_t index);
    void attend_tile(ThreadScratch& scratch, const TokenToImageAttention& attention,
                     const TileCursor& at, const Prompt& prompt, AttentionAccumulator& accumulator,
                     int64_t tokens) const;
    void set_queries(Tokens& rows, const TokenToImageAttention& attention, Form form);
    void finish_attention(const TokenToImageAttention& attention, Form form, PromptRange range,
                          int64_t tokens);
    void set_keys_values(Tokens& rows, int layer, float* prompt_state, int64_t prompt_state_size);

    const Model& model_;
    int64_t tokens_;
    Buffer scratch_, attended_, image_tokens_;
    Buffer final_queries_;                     // of the output tokens, [prompts, outputs, 128]
    std::unique_ptr<CanvasHead> canvas_head_;  // for one prompt after another, or null
    std::vector<Prompt> prompts_;
    std::vector<std::unique_ptr<ThreadScratch>> threads_;
    // Of the prompts of a range: for one part, or for all of them with several threads.
    std::vector<AttentionAccumulator> partials_[2];
};

}  // namespace fastseg::cpu::sam_decoder
