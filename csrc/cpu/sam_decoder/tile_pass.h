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
#include "cpu/sam_decoder/image_state.h"
#include "cpu/sam_decoder/model.h"

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

// Scratch for one tile of one prompt.
class TilePass {
  public:
    TilePass(const Model& model, int64_t tokens);

    // The first layer's token-to-image attention, whose keys and values all prompts share.
    void attend_projected(const ConstStateTile& tile, int64_t valid, const TokenQueries& queries,
                          AttentionAccumulator& accumulator, int64_t tokens);
    // The tile after the first layer. `slot` is its position in a span of tiles.
    void update_first_layer(const ConstStateTile& tile, const TokenKeysValues& keys_values,
                            int64_t tokens, int64_t slot, bool for_attention);
    // The tile after the second layer; follows `update_first_layer` without `for_attention`.
    void update_second_layer(int64_t tile, const TokenKeysValues& keys_values, int64_t tokens,
                             int64_t slot, bool for_attention);
    // Attention to the tile as it is now, after an update `for_attention`.
    void attend_folded(const TokenToImageAttention& attention, int64_t tile, int64_t valid,
                       const TokenQueries& queries, AttentionAccumulator& accumulator,
                       int64_t tokens, int64_t slot);
    // Add the weighted sums of the pending slots; for the end of a span.
    void accumulate_pending(AttentionAccumulator& accumulator, int64_t tokens);
    // The tile as it is now, [256, tile] in format b.
    const void* image() const { return table_.bf16 ? packed_b_.bytes() : current_; }
    // Attend to a tile that `image` returned earlier; for float32.
    void set_image(const std::byte* image) { current_ = image; }

  private:
    // Logits: rows of heads times b and, where given, folded rows times the tile.
    void compute_logits(const HeadRows& rows, const std::byte* b, const Buffer* folded,
                        int64_t tokens);
    void apply_update(const TokenKeysValues& keys_values, const void* residual, const Norm& norm,
                      int64_t tokens, int64_t slot, bool for_attention, Buffer& to);
    bool online_softmax(AttentionAccumulator& accumulator, int64_t valid, int64_t tokens);

    const Model& model_;
    const KernelTable& table_;
    Buffer logits_, weights_, transposed_, first_, second_, packed_b_, packed_a_;
    const std::byte* current_ = nullptr;
    int64_t first_pending_ = 0, end_pending_ = 0;  // slots without their weighted sums
};

}  // namespace fastseg::cpu::sam_decoder
