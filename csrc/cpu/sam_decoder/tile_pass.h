// The image side of the decoder, one tile of image tokens at a time.
//
// No prompt's image tokens are stored for all tiles. A pass over the tiles makes them anew from the
// shared image and from the keys and values of each layer's prompt tokens; while a tile is in the
// cache, the next attention of the prompt tokens to the image reads it.
//
// A cross attention is computed in one of two forms. In the projected form the image tokens were
// projected once for all prompts. In the folded form the projection is folded into the operand of
// the prompt tokens, which is then multiplied by the image tokens themselves.
#pragma once

#include "cpu/sam_decoder/attention_accumulator.h"
#include "cpu/sam_decoder/model.h"
#include "cpu/sam_decoder/tile_cursor.h"

namespace fastseg::cpu::sam_decoder {

// Rows of tokens [tokens, 128] of a cross attention, head by head in the table's format a: plain
// rows in float32, the diagonal of [padded rows, 128] in bfloat16.
struct HeadRows {
    Buffer data;

    void fill(const Model& model, const float* rows, int64_t tokens, float* floats);
};

// Keys and values of a prompt's tokens for the image-to-token attention of one layer.
struct TokenKeysValues {
    HeadRows keys;       // for projected queries of the image or of its positions
    Buffer folded_keys;  // [padded rows, 256] in format a; none in the first layer
    Buffer values;       // [256, padded rows] in format a

    TokenKeysValues() = default;
    TokenKeysValues(const Model& model, int64_t tokens, bool folded);
    // keys and values [tokens, 128]; `floats` is scratch of 2 * 256 * padded rows floats.
    void fill(const Model& model, const ImageToTokenAttention& attention,
              const float* keys_of_tokens, const float* values_of_tokens, int64_t tokens,
              float* floats);
};

// Queries of a prompt's tokens for a token-to-image attention.
struct TokenQueries {
    HeadRows queries;  // for projected keys of the image or of its positions
    Buffer folded;     // [padded rows, 256] in format a

    TokenQueries() = default;
    TokenQueries(const Model& model, int64_t tokens, bool with_folded);
    // queries [tokens, 128]; scratch as above.
    void fill(const Model& model, const TokenToImageAttention& attention,
              const float* queries_of_tokens, int64_t tokens, float* floats);
};

// The token side of a prompt.
class TilePrompt {
  public:
    TilePrompt() = default;
    // Of at most `most` tokens.
    TilePrompt(const Model& model, int64_t most);
    // Of the scratch `floats` of the functions below.
    static int64_t scratch_floats(const Model& model, int64_t most);

    // Keys and values [tokens, 128] that the image attends to; the first layer's come first.
    void set_keys_values(const Model& model, int layer, const float* keys, const float* values,
                         int64_t tokens, float* floats);
    // Queries [tokens, 128] of a token-to-image attention; after the keys and values of the layers
    // before it.
    void set_queries(const Model& model, Stage stage, const float* queries, int64_t tokens,
                     float* floats);
    // What masks are drawn with; after the keys and values of both layers.
    void set_upscaling(const Model&) {}
    // The result of an attention, [tokens, 128] with the values' bias.
    void finish(const Model& model, Stage stage, AttentionAccumulator& accumulator, int64_t tokens,
                float* attended, float* floats) const;

    int64_t tokens = 0;
    TokenKeysValues keys_values[2];
    TokenQueries projected_queries, folded_queries;
};

// Scratch for one tile of one prompt.
class TilePass {
  public:
    using Prompt = TilePrompt;

    TilePass(const Model& model, int64_t tokens);

    static AttentionAccumulator accumulator(const Model& model, int64_t tokens, Stage stage);

    // The tile after the first layer. What `load_first_layer` needs is written to `to`, unless it
    // is null.
    void update_first_layer(const TileCursor& at, const Prompt& prompt, bool for_attention,
                            std::byte* to);
    // The tile after the second layer; follows `update_first_layer` without `for_attention`, or
    // `load_first_layer`.
    void update_second_layer(const TileCursor& at, const Prompt& prompt, bool for_attention,
                             std::byte* to);
    // Add the attention of `tokens` queries to the tile as it is now, after an update
    // `for_attention`; the first stage needs none, as its keys and values are shared.
    void attend(Stage stage, const TileCursor& at, const Prompt& prompt,
                AttentionAccumulator& accumulator, int64_t tokens);

    // Bytes of a tile after either layer; 0 for one that is made again instead.
    static int64_t first_bytes(const Model&, int64_t) { return 0; }
    static int64_t second_bytes(const Model& model, int64_t tokens);
    void load_first_layer(const std::byte*, const Prompt&) {}
    // For `attend`, in float32, and `upscale`.
    void load_second_layer(const std::byte* from) { current_ = from; }

    // A part [64, tile] of the first step of SAM's upscaling, to which `first_bias` is yet to be
    // added.
    void upscale(const TileCursor& at, const Prompt& prompt, int64_t part, float* to);
    const float* first_bias() const { return model_.head.first_bias.data(); }

  private:
    // Logits: rows of heads times b and, where given, folded rows times the tile.
    void compute_logits(const HeadRows& rows, const std::byte* b, const Buffer* folded,
                        int64_t tokens);
    void apply_update(const TokenKeysValues& keys_values, const void* residual, const Norm& norm,
                      int64_t tokens, int64_t slot, bool for_attention, Buffer& to);
    void attend_projected(const TileCursor& at, const TokenQueries& queries,
                          AttentionAccumulator& accumulator, int64_t tokens);
    void attend_folded(const TokenToImageAttention& attention, const TileCursor& at,
                       const TokenQueries& queries, AttentionAccumulator& accumulator,
                       int64_t tokens);
    // Add the weighted sums of the pending slots; for the end of a span.
    void accumulate_pending(AttentionAccumulator& accumulator, int64_t tokens);
    bool online_softmax(AttentionAccumulator& accumulator, int64_t valid, int64_t tokens);

    const Model& model_;
    const KernelTable& table_;
    Buffer logits_, weights_, transposed_, first_, second_, packed_b_, packed_a_;
    const std::byte* current_ = nullptr;
    int64_t first_pending_ = 0, end_pending_ = 0;  // slots without their weighted sums
};

}  // namespace fastseg::cpu::sam_decoder
