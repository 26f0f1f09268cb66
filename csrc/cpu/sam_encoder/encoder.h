// SAM's image encoder (ViT-B, ViT-L, ViT-H and of other sizes) as a native kernel: a normalised
// image to its embedding. Operands of products are float32 or bfloat16, all else is float32.
// Results do not depend on the number of threads.
#pragma once

#include <string>

#include "cpu/sam_encoder/model.h"

namespace fastseg::cpu::sam_encoder {

class Encoder {
  public:
    // `kernel_table` by name. Malformed weights throw std::invalid_argument.
    Encoder(const Weights& weights, const std::string& kernel_table);

    int64_t pixels() const { return model_.pixels(); }  // side of an image
    int64_t grid() const { return model_.grid; }

    bool has_features() const { return model_.features.layer >= 0; }  // of SAM-HQ

    // image [3, pixels, pixels] to embedding [256, grid, grid] and, if it has them, features
    // [32, 4 * grid, 4 * grid].
    void run(const float* image, float* embedding, float* features, int threads) const;

  private:
    Model model_;
};

}  // namespace fastseg::cpu::sam_encoder
