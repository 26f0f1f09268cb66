// A prompt batch over either form of the image side, `Pass`: TilePass or LowRankPass.
#pragma once

#include <iterator>
#include <memory>
#include <vector>

#include "cpu/sam_decoder/canvas_head.h"
#include "cpu/sam_decoder/mask_head.h"
#include "cpu/sam_decoder/prompt_batch.h"
#include "cpu/sam_decoder/tokens.h"
#include "cpu/support/team.h"

namespace fastseg::cpu::sam_decoder {

inline constexpr Stage stages[] = {Stage::first, Stage::second, Stage::last};

struct PromptRange {
    int64_t first, end;
};

// Output tokens of a prompt, in order.
using ChosenTokens = std::vector<int64_t>;

template <class Pass>
class BatchOf : public PromptBatch {
  public:
    BatchOf(const Model& model, int64_t largest, int64_t tokens, bool draws, int threads);

    void run(const PromptImage& image, const float* points, const int32_t* labels, int64_t count,
             const DecodeResult& out, int64_t prompt_state_size, const MasksAbove& masks) override;

  private:
    struct Prompt {
        typename Pass::Prompt tokens;
        AttentionAccumulator accumulators[std::size(stages)];
    };

    struct ThreadScratch {
        ThreadScratch(const Model& model, int64_t tokens) : pass(model, tokens), head(model) {}
        Pass pass;
        MaskHead head;
    };

    // The final attention of a few prompts, their scores and, if wanted, their masks.
    void finish_prompts(const PromptImage& image, Tokens& rows, PromptRange range,
                        const DecodeResult& out, const MasksAbove& masks);
    // In float32, unless all masks are drawn, a score is read before the mask tokens attend: those
    // of masks below the threshold never do. Their attention then reads the image tokens that wait
    // for `draw`.
    void attend_masks_above(const PromptImage& image, Tokens& rows, PromptRange range,
                            const DecodeResult& out, const MasksAbove& masks);
    void set_final_queries(int64_t index, const ChosenTokens& chosen);
    // Add the final attention of some of the prompts' output tokens.
    void add_final_attention(Tokens& rows, PromptRange range, const ChosenTokens& chosen);
    // The masks of the prompts whose score is high enough.
    void draw(const PromptImage& image, PromptRange range, const DecodeResult& out,
              const MasksAbove& masks);
    // A tile after either layer, of a prompt of the batch, and of one of a range.
    std::byte* first_tile(int64_t index, int64_t tile) const {
        return first_.bytes() + (index * model_.tiles() + tile) * first_bytes_;
    }
    std::byte* second_tile(int64_t index, int64_t tile) const {
        return second_.bytes() + (index * model_.tiles() + tile) * second_bytes_;
    }
    int64_t index_of(const Prompt& prompt) const { return &prompt - prompts_.data(); }

    // Visit every tile for every prompt, part by part, and merge the parts' accumulators.
    template <class Visit>
    void attend(const PromptImage& image, PromptRange range, Stage stage, int64_t tokens,
                const Visit& visit);
    template <class Visit>
    void for_tiles(const PromptImage& image, TileRange tiles, int64_t prompts,
                   const Visit& visit) const;
    // Call visit(scratch, part, tiles) for every part of `size` tiles of the image, by all threads.
    template <class Visit>
    void for_parts(int64_t size, const Visit& visit);
    template <class Visit>
    void for_prompt_ranges(int64_t count, const Visit& visit);
    AttentionAccumulator& partial(Stage stage, int64_t part, int64_t index);
    void set_queries(Tokens& rows, Stage stage);
    void finish_attention(Stage stage, PromptRange range, int64_t tokens);
    void set_keys_values(Tokens& rows, int layer, float* prompt_state, int64_t prompt_state_size);
    TileCursor cursor(const PromptImage& image, int64_t tile, int64_t first, int64_t end) const;

    const Model& model_;
    Team team_;
    int64_t tokens_, first_bytes_, second_bytes_;
    Buffer scratch_, attended_, first_, second_;
    Buffer final_queries_;                     // of the output tokens, [prompts, outputs, 128]
    std::unique_ptr<CanvasHead> canvas_head_;  // for one prompt after another, or null
    std::vector<Prompt> prompts_;
    std::vector<std::unique_ptr<ThreadScratch>> scratch_of_thread_;
    // Of the prompts of a range: for one part, or for all of them with several threads.
    std::vector<AttentionAccumulator> partials_[std::size(stages)];
};

}  // namespace fastseg::cpu::sam_decoder
