// The image side of the decoder, one tile of image tokens after another.
//
// No prompt's image tokens are ever kept. A sweep over the tiles makes them anew from the shared
// image and from what each layer's prompt tokens send to it, a few keys and values; while a tile
// is in the cache, the next attention of the prompt tokens to the image reads it.
#pragma once

#include "cpu/sam_decoder/attention_accumulator.h"
#include "cpu/sam_decoder/image_state.h"
#include "cpu/sam_decoder/model.h"

namespace fastseg::cpu::sam_decoder {

// Rows of tokens [tokens, 128] of a cross attention, head by head in the table's format a: as they
// are in float32, on the diagonal of [padded rows, 128] in bfloat16.
struct HeadRows {
    Buffer data;

    void fill(const Model& model, const float* rows, int64_t tokens, float* floats);
};

// What a prompt's tokens send to the image in one layer.
struct Sent {
    HeadRows keys;  // for the queries that the image or its places were projected to
    Buffer
        queries;  // [padded rows, 256] in format a: keys for the raw image; not in the first layer
    Buffer values;  // [256, padded rows] in format a

    Sent() = default;
    Sent(const Model& model, int64_t tokens, bool raw);
    // keys and values [tokens, 128]; `floats` is scratch of 2 * 256 * padded rows floats.
    void fill(const Model& model, const Update& update, const float* keys_of_tokens,
              const float* values_of_tokens, int64_t tokens, float* floats);
};

// What a prompt's tokens look for in the image.
struct Looking {
    HeadRows queries;  // for the keys that the image or its places were projected to
    Buffer raw;        // [padded rows, 256] in format a: queries for the raw image

    Looking() = default;
    Looking(const Model& model, int64_t tokens, bool raw);
    // queries [tokens, 128]; scratch as above.
    void start(const Model& model, const Look& look, const float* queries_of_tokens, int64_t tokens,
               float* floats);
};

// Scratch for one tile of one prompt.
class Sweep {
  public:
    Sweep(const Model& model, int64_t tokens);

    // The first layer's look, at keys and values that all prompts share.
    void look_shared(const ConstStateTile& tile, int64_t valid, const Looking& looking,
                     Sight& sight, int64_t tokens);
    // The tile as the first layer leaves it. `slot` is its place in a span of tiles.
    void update_first(const ConstStateTile& tile, const Sent& sent, int64_t tokens, int64_t slot,
                      bool for_looks);
    // The tile as the second layer leaves it; after `update_first` without `for_looks`.
    void update_second(int64_t tile, const Sent& sent, int64_t tokens, int64_t slot,
                       bool for_looks);
    // Look at the tile as it is now, after an update `for_looks`.
    void look_raw(const Look& look, int64_t tile, int64_t valid, const Looking& looking,
                  Sight& sight, int64_t tokens, int64_t slot);
    // Add up what was seen and waits; for the end of a span.
    void gather(Sight& sight, int64_t tokens);
    // The tile as it is now, [256, tile] in format b.
    const void* image() const { return table_.bf16 ? as_b_.bytes() : current_->bytes(); }

  private:
    // Logits: rows of heads times b, and rows for the raw image, where given, times the tile.
    void maps(const HeadRows& rows, const std::byte* b, const Buffer* raw, int64_t tokens);
    void receive(const Sent& sent, const void* residual, const Norm& norm, int64_t tokens,
                 int64_t slot, bool for_looks, Buffer& to);
    bool weigh(Sight& sight, int64_t valid, int64_t tokens);

    const Model& model_;
    const KernelTable& table_;
    Buffer maps_, weights_, turned_, first_, second_, as_b_, as_a_;
    Buffer* current_ = nullptr;
    int64_t first_waiting_ = 0, end_waiting_ = 0;  // slots whose weighted sum is still to be made
};

}  // namespace fastseg::cpu::sam_decoder
