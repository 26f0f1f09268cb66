// The weights of SAM's prompt encoder and mask decoder, laid out for one kernel table.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cpu/nn/buffer.h"
#include "cpu/nn/kernels.h"
#include "cpu/nn/weights.h"
#include "cpu/sam_decoder/low_rank_weights.h"

namespace fastseg::cpu::sam_decoder {

using namespace nn;

inline constexpr int64_t output_count = 5;  // tokens that heads read in SAM: the IoU's, four masks'
inline constexpr int64_t slots = 4;         // masks
inline constexpr int64_t vector_size = 32;
inline constexpr int64_t hidden = 2048;       // of the tokens' MLP
inline constexpr int64_t mask_channels = 16;  // of a mask prompt after its second convolution
inline constexpr int64_t fine_size = 16 * vector_size;  // of the finer maps at a token: four times
inline constexpr int64_t middle_size = width;           // its resolution, and twice

// The most tokens of a prompt with which the low-rank form takes fewer operations.
inline constexpr int64_t most_low_rank_tokens = 16;

// y = x W + bias.
struct Linear {
    int64_t in = 0, out = 0;
    Buffer panels;  // [out / 32, in, 32], packed for the table
    std::vector<float> bias;
};

struct SelfAttention {
    Linear query, key, value, out;  // the query carries the scale of the softmax
};

// Prompt tokens attend to the image.
struct TokenToImageAttention {
    Linear query, out;  // the query carries the scale
    Buffer keys;        // [128, 256]
    Buffer values;      // [8, 256, 16]
    std::vector<float> value_bias;
    Buffer positions;  // tiles of [128, tile] in format b: the keys' part of the positions
};

// The image attends to the prompt tokens.
struct ImageToTokenAttention {
    Linear key, value;  // the key carries the scale
    Buffer queries;     // [128, 256]
    std::vector<float> query_bias;
    Buffer out;  // [128, 256]
    std::vector<float> out_bias;
    Norm norm;
    Buffer positions;  // tiles of [128, tile] in format b: the queries' part of the positions, and
                       // the bias
};

struct Layer {
    SelfAttention attention;
    Norm norm1, norm2, norm3;
    TokenToImageAttention token_to_image;
    Linear mlp1, mlp2;
    ImageToTokenAttention image_to_token;
};

// The token-to-image attentions, in their order.
enum class Stage { first, second, last };

struct Head {
    Linear first, second, last;
};

struct Upscaling {
    Buffer first;                    // [4 * 64, 256] in format a; rows are y, x, channel
    Buffer second;                   // [4 * 32, 64] in format a
    std::vector<float> first_bias;   // [4 * 64], four times the same
    std::vector<float> second_bias;  // [32]
    Norm norm;
};

struct MaskPrompt {
    std::vector<float> first, first_bias, second, second_bias, last, last_bias;
    Norm norm1, norm2;
};

// SAM-HQ's further mask: its vector times what two convolutions of 3 x 3 make of the canvas, and
// the encoder's features.
struct HqWeights {
    Head vector;
    Buffer first;  // [9, 64, 32], tap by tap
    std::vector<float> first_bias;
    Norm norm;
    std::vector<float> second;  // [32, 9, 64]
    std::vector<float> second_bias;
    std::vector<float> canvas_scale, canvas_shift;  // [128] of the canvas before its GELU
};

// SAM 2 has maps of higher resolution, a token of the object, and a sigmoid behind the scores;
// SAM-HQ has features of the encoder, and a token of one more mask. EfficientSAM has GELU
// throughout, a residual of the first self-attention, one norm over all pixels, and no mask prompt.
enum class Kind { sam, sam2, sam_hq, efficient_sam };

struct Model {
    Model(const Weights& weights, int64_t grid, int64_t side, const KernelTable& table);

    int64_t image_tokens() const { return grid * grid; }
    int64_t tiles() const { return (image_tokens() + tile_size - 1) / tile_size; }
    int64_t element() const { return table.bf16 ? 2 : 4; }
    // Tokens that heads read: the scores', four masks', and SAM-HQ's.
    int64_t outputs() const { return output_count + (kind == Kind::sam_hq); }
    // Length of a mask's vector; the second half of SAM-HQ's is the same for all masks of a prompt.
    int64_t vector() const { return vector_size * (kind == Kind::sam_hq ? 2 : 1); }
    int64_t area() const { return 16 * image_tokens(); }  // of a mask, in pixels
    // Masks need all tiles of a prompt, see canvas_head.h.
    bool whole_canvas() const { return kind == Kind::sam_hq || kind == Kind::efficient_sam; }
    // Whether a prompt takes the low-rank form: with a mask, no other shares its image.
    bool takes_low_rank(int64_t tokens, bool masked) const {
        return !table.bf16 && !masked && tokens <= most_low_rank_tokens;
    }
    // Floats of each array that the encoder makes of an image, the embedding first.
    std::vector<int64_t> map_sizes() const;
    // Tokens of every prompt, before those of its points.
    int64_t fixed() const { return static_cast<int64_t>(fixed_tokens.size()) / width; }
    const TokenToImageAttention& token_to_image(Stage stage) const {
        return stage == Stage::last ? final_attention
                                    : layers[stage == Stage::second].token_to_image;
    }
    int64_t padded(int64_t rows) const {
        return (rows + table.row_step - 1) / table.row_step * table.row_step;
    }

    const KernelTable& table;
    int64_t grid, side;
    double epsilon;  // of the transformer's layer norms
    Kind kind;
    std::vector<float> fourier;           // [2, 128]
    std::vector<float> label_embeddings;  // [5, 256] padding, background, foreground, two corners
    std::vector<float> no_mask;           // [256]
    std::vector<float> fixed_tokens;  // [5 or 6, 256] the output tokens, SAM 2's then the object's
    Buffer positions;                 // tiles of [256, tile]
    Layer layers[2];
    TokenToImageAttention final_attention;
    Norm final_norm;
    Head iou, masks[slots];
    Upscaling head;
    MaskPrompt mask_prompt;
    HqWeights hq;             // of SAM-HQ alone
    LowRankWeights low_rank;  // of float32 alone

  private:
    std::vector<Linear*> linears();  // all of them
};

// Encode a position in 0..1 as 256 sines and cosines (Tancik et al. 2020), `stride` floats apart.
void encode_position(const Model& model, float x, float y, float* to, int64_t stride);

}  // namespace fastseg::cpu::sam_decoder
