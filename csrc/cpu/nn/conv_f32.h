// The kernels of conv_kernels.h for the instruction set that the including file is compiled for.
#pragma once

#include "cpu/nn/conv_kernels.h"
#include "cpu/nn/simd.h"

namespace fastseg::cpu::nn {
namespace {

// Values at the points of six pixels in a line; `step` from one to the next.
FASTSEG_INLINE void to_points(const Floats* pixels, Floats* to, int step) {
    constexpr float near = near_point * near_point, far = far_point * far_point;
    const Floats product = spread(near * far), sum = spread(near + far);
    to[0] = product * pixels[0] + (pixels[4] - sum * pixels[2]);
    to[5 * step] = product * pixels[1] + (pixels[5] - sum * pixels[3]);
    const Floats even_near = pixels[4] - spread(far) * pixels[2];
    const Floats odd_near = spread(near_point) * (pixels[3] - spread(far) * pixels[1]);
    to[step] = even_near + odd_near;
    to[2 * step] = even_near - odd_near;
    const Floats even_far = pixels[4] - spread(near) * pixels[2];
    const Floats odd_far = spread(far_point) * (pixels[3] - spread(near) * pixels[1]);
    to[3 * step] = even_far + odd_far;
    to[4 * step] = even_far - odd_far;
}

// Four results in a line of their values at the points.
FASTSEG_INLINE void from_points(const Floats* values, Floats* to, int step) {
    constexpr float near = near_point * near_point, far = far_point * far_point;
    const Floats near_sum = values[1] + values[2], near_difference = values[1] - values[2];
    const Floats far_sum = values[3] + values[4], far_difference = values[3] - values[4];
    to[0] = values[0] + (near_sum + far_sum);
    to[step] = spread(near_point) * near_difference + spread(far_point) * far_difference;
    to[2 * step] = spread(near) * near_sum + spread(far) * far_sum;
    to[3 * step] = spread(near_point * near) * near_difference +
                   (spread(far_point * far) * far_difference + values[5]);
}

void winograd_input(const Pixels& from, const WinogradTiles& to) {
    constexpr int window = winograd_window;
    for (int64_t each = 0; each < to.count; ++each) {
        const int64_t y = (to.first + each) / to.across, x = (to.first + each) % to.across;
        const float* corner = from.at(y * winograd_tile - 1, x * winograd_tile - 1);
        float* values = to.values + each * to.tile;
        for (int64_t c = 0; c < to.channels; c += lanes) {
            Floats columns[window * window];  // [row of points, column of pixels]
#pragma GCC unroll 6
            for (int column = 0; column < window; ++column) {
                Floats pixels[window];
#pragma GCC unroll 6
                for (int row = 0; row < window; ++row)
                    pixels[row] = load(corner + row * from.row + column * from.pixel + c);
                to_points(pixels, columns + column, window);
            }
#pragma GCC unroll 6
            for (int row = 0; row < window; ++row) {
                Floats points[window];
                to_points(columns + row * window, points, 1);
#pragma GCC unroll 6
                for (int column = 0; column < window; ++column)
                    store(values + (row * window + column) * to.point + c, points[column]);
            }
        }
    }
}

// One vector of a tile's channels.
FASTSEG_INLINE void from_tile(const float* values, int64_t point, Floats bias, Floats* results) {
    constexpr int window = winograd_window, tile = winograd_tile;
    Floats columns[tile * window];  // [row of pixels, column of points]
#pragma GCC unroll 6
    for (int column = 0; column < window; ++column) {
        Floats points[window];
#pragma GCC unroll 6
        for (int row = 0; row < window; ++row)
            points[row] = load(values + (row * window + column) * point);
        from_points(points, columns + column, window);
    }
#pragma GCC unroll 4
    for (int row = 0; row < tile; ++row) {
        Floats pixels[tile];
        from_points(columns + row * window, pixels, 1);
#pragma GCC unroll 4
        for (int column = 0; column < tile; ++column)
            results[row * tile + column] = larger(Floats{}, pixels[column] + bias);
    }
}

void winograd_output(const WinogradTiles& from, const float* bias, const Pixels& to, int64_t side) {
    constexpr int tile = winograd_tile;
    for (int64_t each = 0; each < from.count; ++each) {
        const int64_t y = (from.first + each) / from.across * tile;
        const int64_t x = (from.first + each) % from.across * tile;
        const float* values = from.values + each * from.tile;
        float* corner = to.at(y, x);
        const bool whole = y + tile <= side && x + tile <= side;
        for (int64_t c = 0; c < from.channels; c += lanes) {
            Floats results[tile * tile];
            from_tile(values + c, from.point, load(bias + c), results);
            if (whole) {
#pragma GCC unroll 16
                for (int at = 0; at < tile * tile; ++at)
                    store(corner + at / tile * to.row + at % tile * to.pixel + c, results[at]);
            } else {
                for (int64_t row = 0; row < tile && y + row < side; ++row)
                    for (int64_t column = 0; column < tile && x + column < side; ++column)
                        store(corner + row * to.row + column * to.pixel + c,
                              results[row * tile + column]);
            }
        }
    }
}

void add_bias(const float* sums, int64_t sums_row, int64_t count, const float* bias,
              int64_t channels, bool relu, float* to, int64_t step) {
    const Floats least = spread(relu ? 0.0f : -__builtin_inff());
    for (int64_t each = 0; each < count; ++each, sums += sums_row, to += step)
        for (int64_t c = 0; c < channels; c += lanes)
            store(to + c, larger(least, load(sums + c) + load(bias + c)));
}

void max_pool(const Pixels& from, int64_t count, int64_t channels, float* to, int64_t step) {
    for (int64_t each = 0; each < count; ++each, to += step) {
        const float* above = from.at(0, 2 * each);
        const float* below = above + from.row;
        for (int64_t c = 0; c < channels; c += lanes)
            store(to + c, larger(larger(load(above + c), load(above + from.pixel + c)),
                                 larger(load(below + c), load(below + from.pixel + c))));
    }
}

void sigmoid(float* logits, int64_t count, float bias) {
    for (int64_t at = 0; at < count; at += lanes) {
        const Floats negative = -(load(logits + at) + spread(bias));
        // In this order, what is not a number stays so.
        const Floats bounded = smaller(spread(88.0f), larger(spread(-87.0f), negative));
        store(logits + at, spread(1.0f) / (spread(1.0f) + bounded_exponential(bounded)));
    }
}

constexpr ConvKernels conv_f32_kernels = {winograd_input, winograd_output, add_bias, max_pool,
                                          sigmoid};

}  // namespace
}  // namespace fastseg::cpu::nn
