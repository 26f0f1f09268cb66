// Prompts on one image, decoded together: by one thread, or tile by tile by several.
#pragma once

#include <memory>
#include <vector>

#include "cpu/sam_decoder/decoder.h"
#include "cpu/sam_decoder/mask_head.h"
#include "cpu/sam_decoder/prompt_state.h"
#include "cpu/sam_decoder/tile_pass.h"
#include "cpu/sam_decoder/tokens.h"

namespace fastseg::cpu::sam_decoder {

class Group {
  public:
    // Prompts whose tokens are multiplied together: weights are read once for all of them.
    static constexpr int64_t most = 16;
    // Prompts that read a tile of the image while it is in the cache.
    static constexpr int64_t together = 4;

    // Parts of the image that are looked at apart, on whatever number of threads.
    static int64_t parts(const Model& model);

    // Of at most `largest` prompts of `tokens` tokens each. `draws` if `run` is to draw.
    Group(const Model& model, int64_t largest, int64_t tokens, bool draws, int threads);

    // `state` is of the image that these prompts are on. What is null is not answered.
    void run(const std::byte* state, const float* points, const int32_t* labels, int64_t count,
             const Answered& out, int64_t memory_size, const Drawing& drawing);

  private:
    // Of a layer's look: at what the image was projected to once for all prompts, or at itself.
    enum Kind { shared, raw };

    struct Prompt {
        Looking looking[2];
        Sight sight[2];
        Sent sent[2];
    };

    // Scratch of a thread.
    struct Hand {
        Hand(const Model& model, int64_t tokens) : sweep(model, tokens), head(model) {}
        Sweep sweep;
        MaskHead head;
    };

    struct Place {
        ConstStateTile image;
        int64_t tile, slot, valid;
        bool ends_span;
    };

    // Prompts from `first` on.
    struct Company {
        int64_t first, end;
    };

    // The last look of a few prompts, and what follows from it.
    void look_last(const std::byte* state, Tokens& rows, Company company, const Answered& out,
                   const Drawing& drawing);
    // Those masks of the prompts whose score is high enough.
    void draw(Company company, const Answered& out, const Drawing& drawing);
    std::byte* kept(int64_t index, int64_t tile) const;

    // Visit every tile for every prompt, part by part, and join what was seen in the parts.
    template <class Visit>
    void see(const std::byte* state, Company company, Kind kind, int64_t tokens,
             const Visit& visit);
    template <class Visit>
    void for_tiles(const std::byte* state, TileRange tiles, int64_t prompts,
                   const Visit& visit) const;
    // Call visit(hand, part, tiles) for every part of the image, by all threads.
    template <class Visit>
    void for_parts(const Visit& visit);
    template <class Visit>
    void for_companies(int64_t count, const Visit& visit);
    Sight& piece(Kind kind, int64_t part, int64_t index);
    void look(Hand& hand, const Look& look, const Place& at, const Prompt& prompt, Sight& sight,
              int64_t tokens) const;
    void start(Tokens& rows, const Look& look, Kind kind);
    void finish(const Look& look, Kind kind, Company company, int64_t tokens);
    void send(Tokens& rows, int layer, float* memory, int64_t memory_size);

    const Model& model_;
    int64_t tokens_;
    Buffer scratch_, seen_, kept_;
    std::vector<Prompt> prompts_;
    std::vector<std::unique_ptr<Hand>> hands_;
    std::vector<Sight> pieces_[2];  // of the prompts of a company: one part, or all with threads
};

}  // namespace fastseg::cpu::sam_decoder
