// The passes around the products of convolutions in float32: what a network over feature maps asks
// of one instruction set.
//
// A convolution with 3 x 3 neighbours is Winograd's F(4 x 4, 3 x 3) (Lavin and Gray, Fast
// Algorithms for Convolutional Neural Networks, CVPR 2016). Windows of 6 x 6 pixels and kernels are
// both taken to their values at 36 points. There a convolution is a product at each point, with a
// quarter of the multiplications, and its result is taken back to a tile of 4 x 4 pixels.
#pragma once

#include <cstdint>

namespace fastseg::cpu::nn {

inline constexpr int64_t winograd_tile = 4, winograd_window = 6, winograd_points = 36;

// Of each axis the points are 0, +-near, +-far and infinity. These two gave the least rounding of
// the pairs that were tried, and all factors of the transforms are exact in float32.
inline constexpr float near_point = 0.75f, far_point = 1.5f;

// A feature map: its pixel (0, 0), and floats from one row and pixel to the next. The channels of a
// pixel, a multiple of 16, lie side by side.
struct Pixels {
    float* first;
    int64_t row, pixel;

    float* at(int64_t y, int64_t x) const { return first + y * row + x * pixel; }
    Pixels from_channel(int64_t channel) const { return {first + channel, row, pixel}; }
};

// Tiles of a map, numbered row by row, and their values [points, count, channels].
struct WinogradTiles {
    int64_t across;  // tiles in a row of tiles
    int64_t first, count;
    int64_t channels;
    float* values;
    int64_t point, tile;  // floats from one to the next
};

struct ConvKernels {
    // The windows around tiles of `from`, one pixel wider on every side, to values.
    void (*winograd_input)(const Pixels& from, const WinogradTiles& to);
    // Values to relu(tile + bias). Pixels from `side` on are left as they are.
    void (*winograd_output)(const WinogradTiles& from, const float* bias, const Pixels& to,
                            int64_t side);
    // `count` rows of sums + bias to pixels `step` floats apart.
    void (*add_bias)(const float* sums, int64_t sums_row, int64_t count, const float* bias,
                     int64_t channels, bool relu, float* to, int64_t step);
    // The largest of 2 x 2 pixels, for a row of `count` results.
    void (*max_pool)(const Pixels& from, int64_t count, int64_t channels, float* to, int64_t step);
    // 1 / (1 + exp(-(logit + bias))) of `count` logits, a multiple of 16, in place.
    void (*sigmoid)(float* logits, int64_t count, float bias);
};

}  // namespace fastseg::cpu::nn
