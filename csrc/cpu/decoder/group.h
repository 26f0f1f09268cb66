// Prompts on one image, decoded together by one thread.
#pragma once

#include <vector>

#include "cpu/decoder/decoder.h"
#include "cpu/decoder/mask_head.h"
#include "cpu/decoder/memory.h"
#include "cpu/decoder/sweep.h"
#include "cpu/decoder/tokens.h"

namespace fastseg::cpu::decoder {

class Group {
  public:
    // Prompts whose tokens are multiplied together: weights are read once for all of them.
    static constexpr int64_t most = 16;
    // Prompts that read a tile of the image while it is in the cache.
    static constexpr int64_t together = 4;

    // Of at most `largest` prompts of `tokens` tokens each. `draws` if `run` is to draw.
    Group(const Model& model, int64_t largest, int64_t tokens, bool draws);

    // `state` is of the image that these prompts are on. What is null is not answered.
    void run(std::byte* state, const float* points, const int32_t* labels, int64_t count,
             const Answered& out, int64_t memory_size, const Drawing& drawing);

  private:
    struct Prompt {
        Looking shared, raw;
        Sent sent[2];
    };

    struct Place {
        StateTile image;
        int64_t tile, slot, valid;
        bool ends_span;
    };

    // Prompts from `first` on.
    struct Company {
        int64_t first, end;
    };

    // The last look of a few prompts, and what follows from it.
    void look_last(std::byte* state, Tokens& rows, Company company, const Answered& out,
                   const Drawing& drawing);
    // Those masks of the prompts whose score is high enough.
    void draw(Company company, const Answered& out, const Drawing& drawing);
    std::byte* kept(int64_t index, int64_t tile) const;

    void look(const Look& look, const Place& at, Prompt& prompt, int64_t tokens);
    template <class Visit>
    void for_tiles(std::byte* state, Company company, const Visit& visit);
    template <class Visit>
    void for_companies(int64_t count, const Visit& visit);
    void start(Tokens& rows, const Look& look, Looking Prompt::* looking);
    void finish(const Look& look, Looking Prompt::* looking, Company company, int64_t tokens);
    void send(Tokens& rows, int layer, float* memory, int64_t memory_size);

    const Model& model_;
    int64_t tokens_;
    Sweep sweep_;
    MaskHead head_;
    Buffer scratch_, seen_, kept_;
    std::vector<Prompt> prompts_;
};

}  // namespace fastseg::cpu::decoder
