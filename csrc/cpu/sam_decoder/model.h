// The weights of SAM's prompt encoder and mask decoder, laid out for one table.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cpu/nn/buffer.h"
#include "cpu/nn/kernels.h"
#include "cpu/nn/weights.h"

namespace fastseg::cpu::sam_decoder {

using namespace nn;

inline constexpr int64_t outputs = 5;  // tokens read in the end: the IoU's and four masks'
inline constexpr int64_t slots = 4;    // masks
inline constexpr int64_t vector_size = 32;
inline constexpr int64_t hidden = 2048;       // of the tokens' MLP
inline constexpr int64_t mask_channels = 16;  // of a mask prompt on its way in

// y = x W + bias.
struct Linear {
    int64_t in = 0, out = 0;
    Buffer panels;  // [out / 32, in, 32], laid out for the table
    std::vector<float> bias;
};

struct SelfAttention {
    Linear query, key, value, out;  // the query carries the scale of the softmax
};

// Tokens attend to the image.
struct Look {
    Linear query, out;  // the query carries the scale
    Buffer keys;        // [128, 256]
    Buffer values;      // [8, 256, 16]
    std::vector<float> value_bias;
    Buffer positions;  // tiles of [128, tile] in format b: keys of the places alone
};

// The image attends to the tokens.
struct Update {
    Linear key, value;  // the key carries the scale
    Buffer queries;     // [128, 256]
    std::vector<float> query_bias;
    Buffer out;  // [128, 256]
    std::vector<float> out_bias;
    Norm norm;
    Buffer positions;  // tiles of [128, tile] in format b: queries of the places, with the bias
};

struct Layer {
    SelfAttention attention;
    Norm norm1, norm2, norm3;
    Look look;
    Linear mlp1, mlp2;
    Update update;
};

struct Head {
    Linear first, second, last;
};

struct Upscaling {
    Buffer first;   // [4 * 64, 256] in format a; rows are y, x, channel
    Buffer second;  // [4 * 32, 64] in format a
    std::vector<float> first_bias, second_bias;
    Norm norm;
};

struct MaskPrompt {
    std::vector<float> first, first_bias, second, second_bias, last, last_bias;
    Norm norm1, norm2;
};

struct Model {
    Model(const Weights& weights, int64_t grid, int64_t side, const KernelTable& table);

    int64_t places() const { return grid * grid; }
    int64_t tiles() const { return (places() + tile_size - 1) / tile_size; }
    int64_t element() const { return table.bf16 ? 2 : 4; }
    int64_t padded(int64_t rows) const {
        return (rows + table.row_step - 1) / table.row_step * table.row_step;
    }

    const KernelTable& table;
    int64_t grid, side;
    std::vector<float> fourier;  // [2, 128]
    std::vector<float> kinds;    // [5, 256] padding, background, foreground, two corners
    std::vector<float> no_mask;  // [256]
    std::vector<float> starts;   // [5, 256] output tokens
    Buffer positions;            // tiles of [256, tile]
    Layer layers[2];
    Look last;
    Norm last_norm;
    Head iou, masks[slots];
    Upscaling head;
    MaskPrompt mask_prompt;

  private:
    std::vector<Linear*> linears();  // all of them
};

// Encode a place in 0..1 as 256 sines and cosines (Tancik et al. 2020), `stride` floats apart.
void encode_place(const Model& model, float x, float y, float* to, int64_t stride);

}  // namespace fastseg::cpu::sam_decoder
