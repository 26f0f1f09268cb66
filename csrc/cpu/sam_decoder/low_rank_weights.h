// What the low-rank form of the decoder multiplies, made of the decoder's weights.
//
// The image tokens of a prompt differ from those X that all prompts of an image share by few
// vectors. Let a1 and a2 [L, R] be the weights with which the image attends to the prompt's T
// tokens, and V1 and V2 [R, 256] what these then add. Behind the two layers the tokens are
//
//   Y = s1 (C(X) + a1 C(V1)) g1 + b1
//   Z = s2 (s1 (C((C(X) g1)) + a1 C(C(V1) g1)) + C(b1) + a2 C(V2)) g2 + b2
//
// where C subtracts the mean over the channels, s1 and s2 [L] are the inverse deviations of the
// norms, g and b their scales and shifts. Neither Y nor Z is ever made: a product of either with a
// matrix is a product of C(X) with it, which is made once an image, and products of R rows; the
// squares under s1 and s2 are quadratic forms of a1 and a2. But for rounding the results are the
// same, with less than half of the operations.
//
// The weights of a head sum to one. So its last token is an origin: the others add their values
// less those of the origin, and all origins together are one more row, whose weight is one. R is
// 8 * (T - 1) + 1. Likewise a softmax depends on differences of logits, and the origin's are zero.
//
// V1 and V2 are values of 16 channels a head times the head's part of the output projection. So
// their products with a matrix come from the values and a matrix of 128 columns as well.
#pragma once

#include <vector>

#include "cpu/nn/buffer.h"

namespace fastseg::cpu::sam_decoder {

struct Model;

struct LowRankWeights {
    LowRankWeights() = default;
    explicit LowRankWeights(const Model& model);

    std::vector<float> input_shift;   // [256] added to X: what the values' bias adds in layer 1
    std::vector<float> middle_shift;  // [256] C(b1 + the bias of layer 2)
    float middle_squares = 0;         // of it

    // Of C(X), see SharedMaps.
    nn::Buffer shared;  // [1280, 256]

    // Of values of the first layer: matrices [.., 128].
    nn::Buffer keys1, values1, queries1;    // [128, 128] to the second layer's attentions
    nn::Buffer gram1, gram11, gram12;       // [128, 128] to inner products
    nn::Buffer final_keys1, final_values1;  // [128, 128]
    nn::Buffer upscale1;                    // [256, 128]
    nn::Buffer shift1;                      // [128] with the middle shift

    // Of values of the second layer.
    nn::Buffer gram22, final_keys2, final_values2, upscale2, shift2;

    nn::Buffer final_key_shift, final_value_shift;    // [128] of the middle shift
    nn::Buffer upscale_shift;                         // [256] likewise
    std::vector<float> value_bias, final_value_bias;  // [128] of the attentions, with b1 and b2
    std::vector<float> first_bias;                    // [256] of the upscaling, with b2
    nn::Buffer positions;  // tiles of [128, tile]: those of the second image-to-token attention,
                           // with b1
};

}  // namespace fastseg::cpu::sam_decoder
