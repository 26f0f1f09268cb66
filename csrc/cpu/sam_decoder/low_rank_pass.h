// The image side of the decoder in the low-rank form, one tile of a prompt at a time, in float32;
// see low_rank_weights.h. The counterpart of tile_pass.h, for prompts without a mask.
#pragma once

#include <initializer_list>

#include "cpu/sam_decoder/low_rank_prompt.h"
#include "cpu/sam_decoder/shared_maps.h"
#include "cpu/sam_decoder/tile_cursor.h"

namespace fastseg::cpu::sam_decoder {

class LowRankPass {
  public:
    using Prompt = LowRankPrompt;

    LowRankPass(const Model& model, int64_t tokens);

    static AttentionAccumulator accumulator(const Model& model, int64_t tokens, Stage stage);

    // As those of TilePass.
    void update_first_layer(const TileCursor& at, const Prompt& prompt, bool for_attention,
                            std::byte* to);
    void update_second_layer(const TileCursor& at, const Prompt& prompt, bool for_attention,
                             std::byte* to);
    void attend(Stage stage, const TileCursor& at, const Prompt& prompt,
                AttentionAccumulator& accumulator, int64_t tokens);

    static int64_t first_bytes(const Model& model, int64_t tokens);
    static int64_t second_bytes(const Model& model, int64_t tokens);
    void load_first_layer(const std::byte* from, const Prompt& prompt);
    void load_second_layer(const std::byte* from);

    void upscale(const TileCursor& at, const Prompt& prompt, int64_t part, float* to);
    const float* first_bias() const { return model_.low_rank.first_bias.data(); }

  private:
    // Terms of a chain: rows [tokens, 128] of heads times a map [128, tile] that is shared, of the
    // image's state or of positions; a matrix [8 * tokens, rows] times the weights of a layer, and
    // a folded product of them with themselves.
    HeadTerm heads_term(const Buffer& x, const float* map, int64_t ahead) const;
    HeadTerm image_term(const Buffer& x, const std::byte* map) const;
    HeadTerm positions_term(const Buffer& x, const Buffer& positions, int64_t tile) const;
    HeadTerm matrix_term(const Buffer& matrix, int64_t tokens, int layer,
                         const float* scale = nullptr) const;
    HeadTerm folded_term(const Buffer& gram, int layer) const;
    void chain(std::initializer_list<HeadTerm> terms, int64_t tokens, float* to) const;
    // to [tile] = what a chain of the prompt's other tokens gives, times the weights of a layer.
    void weigh(std::initializer_list<HeadTerm> terms, int layer, float* to);
    // Where the weights of a layer are written, `to` unless it is null; that of the origins is.
    float* begin_layer(int layer, std::byte* to);
    void attend_shared(const TileCursor& at, const Prompt& prompt,
                       AttentionAccumulator& accumulator, int64_t tokens);
    // Logits to weights, not yet divided by their sum.
    void online_softmax(AttentionAccumulator& accumulator, int64_t valid, int64_t tokens);
    void add_values(const float* values, int64_t ahead, AttentionAccumulator& accumulator,
                    int64_t tokens) const;
    // Add the logits' weighted sums of a layer's weights.
    void add_rows(int layer, AttentionAccumulator& accumulator, int64_t tokens) const;

    const Model& model_;
    const KernelTable& table_;
    int64_t next_;                   // floats from a shared map to that of the next tile
    int64_t rows_ = 0, others_ = 0;  // of the prompt whose tile this is
    // Of the image's attention to the prompt's tokens, layer by layer: [rows, tile], and the
    // inverse deviations [tile] of the norm behind it. They lie in `own_`, or where they are kept.
    const float *weights_[2] = {}, *rates_[2] = {};
    Buffer own_[2], logits_, transposed_, scratch_;
};

}  // namespace fastseg::cpu::sam_decoder
