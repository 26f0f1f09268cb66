// Attention with decomposed relative positions, within windows or over the whole image.
#pragma once

#include "cpu/sam_encoder/model.h"
#include "cpu/sam_encoder/x86/elementwise.h"

namespace fastseg::cpu::sam_encoder {

class Attention {
  public:
    explicit Attention(const Model& model);

    // Queries, keys and values of all tokens [tokens, width] in format a.
    void project(const Layer& layer, const Bf16* tokens, int threads);

    // The result of the attention, to [tokens, width] in format a.
    void attend(const Layer& layer, Bf16* to, int threads) const;

  private:
    const TokenSquares& squares(const Layer& layer) const {
        return layer.windowed ? model_.windows : model_.whole;
    }
    void fill_padding(const Layer& layer, int threads);
    void pack_keys(const Layer& layer, int threads);

    const Model& model_;
    // Of every head, one after another; see Heads.
    Buffer queries_, key_rows_, values_;
    Buffer keys_;  // every square of every head [depth, room] in format b
};

}  // namespace fastseg::cpu::sam_encoder
