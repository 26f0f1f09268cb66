// The forward passes of SAM's image encoder, one for each format of its weights.
#pragma once

#include "cpu/sam_encoder/model.h"

namespace fastseg::cpu::sam_encoder {

// image [3, pixels, pixels] to embedding [256, grid, grid], on at most `threads` threads (0: all
// cores). The model's table must have float32, or bfloat16, operands. `features`
// [32, 4 * grid, 4 * grid] are written for a model that has them.
void embed_f32(const Model& model, const float* image, float* embedding, float* features,
               int threads);
void embed_bf16(const Model& model, const float* image, float* embedding, int threads);

}  // namespace fastseg::cpu::sam_encoder
