// The weights of SAM's image encoder (Kirillov et al. 2023; Li et al. 2022, ViTDet), laid out for
// the products of a kernel table.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cpu/nn/buffer.h"
#include "cpu/nn/kernels.h"
#include "cpu/nn/weights.h"

namespace fastseg::cpu::sam_encoder {

using nn::Buffer;
using nn::Norm;
using nn::Weights;

inline constexpr int64_t patch = 16;       // pixels
inline constexpr int64_t window = 14;      // tokens
inline constexpr int64_t out_width = 256;  // channels of the embedding

struct Linear {
    int64_t in = 0, out = 0;
    Buffer kernel;            // [in, out] in format b, in float32 in panels: see packed_linear.h
    std::vector<float> bias;  // may be empty
};

// Squares of tokens that attend to each other: windows of the image, or all of it.
struct TokenSquares {
    int64_t span = 0;            // side of a square in tokens
    int64_t count = 0;           // squares
    int64_t room = 0;            // span * span, padded to 32: slots of a square
    std::vector<int32_t> slots;  // [grid * grid] of every token; squares follow each other
    std::vector<int32_t>
        tokens;  // [count * room] of every slot; -1: padding of the image, -2: none
};

struct Layer {
    bool windowed = false;
    Norm norm1, norm2;
    Linear qkv, proj, lin1, lin2;
    // With bfloat16 [depth of a head, distances] in format b, the largest distance first; in
    // float32 [distances, channels], the smallest first, with rows that a product may read beyond
    // the end.
    Buffer rows, columns;
};

// Two transposed convolutions without overlap, with a norm and GELU between them: tokens to four
// times their resolution. Outputs stand by sub-pixels, y before x, then by channel.
struct Enlargement {
    Linear first, second;
    Norm norm;
};

// What SAM-HQ's decoder draws on beside the embedding: channels of four times its resolution, made
// of the embedding and of the tokens behind the first layer without windows.
struct HqFeatures {
    int64_t layer = -1;  // none in SAM
    Enlargement of_tokens, of_embedding;
};

inline constexpr int64_t feature_channels = 32;

struct Model {
    // Malformed weights throw std::invalid_argument.
    Model(const Weights& weights, const nn::KernelTable& table);

    int64_t tokens() const { return grid * grid; }
    int64_t pixels() const { return grid * patch; }

    const nn::KernelTable& table;
    int64_t grid, width, heads, channels;
    int64_t depth;  // channels of a head, padded to 32
    int64_t chunk;  // columns that a thread multiplies at a time with bfloat16: whole heads
    Linear embed;
    std::vector<float> positions;  // [grid * grid, width]
    std::vector<Layer> layers;
    Linear neck1, neck2;  // the second is a 3 x 3 convolution: [9 * 256, 256]
    Norm neck_norm1, neck_norm2;
    TokenSquares windows, whole;
    HqFeatures features;
};

}  // namespace fastseg::cpu::sam_encoder
