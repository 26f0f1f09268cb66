// Passes over the maps and tiles of the decoder in float32, tokens of the image along the lanes.
#pragma once

#include "cpu/decoder/vectors.h"

namespace fastseg::cpu::decoder {
namespace {

constexpr float lag = 8.0f;  // by how much a logit may exceed its reference: e^8 is harmless

// Softmax over the `tokens` rows of every head, in place.
void soften_floats(float* maps, int64_t tokens) {
    for (int64_t head = 0; head < heads; ++head) {
        float* rows = maps + head * tokens * tile_size;
        for (int64_t n = 0; n < tile_size; n += lanes) {
            Floats largest = load(rows + n);
            for (int64_t t = 1; t < tokens; ++t)
                largest = larger(largest, load(rows + t * tile_size + n));
            Floats sum{};
            for (int64_t t = 0; t < tokens; ++t) {
                const Floats power = exponential(load(rows + t * tile_size + n) - largest);
                sum += power;
                store(rows + t * tile_size + n, power);
            }
            const Floats scale = spread(1.0f) / sum;
            for (int64_t t = 0; t < tokens; ++t)
                store(rows + t * tile_size + n, load(rows + t * tile_size + n) * scale);
        }
    }
}

// Replace logits by weights, in place; see Weighing.
bool weigh_floats(const Weighing& w) {
    bool moved = false;
    for (int64_t row = 0; row < w.rows; ++row) {
        float* logits = w.maps + row * tile_size;
        Floats largest = load(logits);
        for (int64_t n = lanes; n < tile_size; n += lanes)
            largest = larger(largest, load(logits + n));
        const float top = largest_lane(largest);
        w.factors[row] = 1.0f;
        if (top > w.reference[row] + lag) {
            w.factors[row] = exponential(spread(w.reference[row] - top))[0];
            w.sums[row] *= w.factors[row];
            w.reference[row] = top;
            moved = true;
        }
        const Floats reference = spread(w.reference[row]);
        Floats sum{};
        for (int64_t n = 0; n < tile_size; n += lanes) {
            const Floats power = exponential(load(logits + n) - reference);
            sum += power;
            store(logits + n, power);
        }
        w.sums[row] += sum_lanes(sum);
    }
    return moved;
}

struct Statistics {
    Floats mean, scale;  // of one vector of tokens
};

// sums += residual, and each token's mean and 1 / deviation over `count` channels.
template <int vectors>
FASTSEG_INLINE void add_and_measure(float* sums, const float* residual, int64_t n,
                                    Statistics (&out)[vectors]) {
    Floats sum[vectors] = {}, squares[vectors] = {};
    for (int64_t c = 0; c < width; ++c) {
        for (int v = 0; v < vectors; ++v) {
            float* at = sums + c * tile_size + n + v * lanes;
            const Floats value = load(at) + load(residual + c * tile_size + n + v * lanes);
            store(at, value);
            sum[v] += value;
            squares[v] += value * value;
        }
    }
    for (int v = 0; v < vectors; ++v) {
        out[v].mean = sum[v] * spread(1.0f / width);
        const Floats variance = squares[v] * spread(1.0f / width) - out[v].mean * out[v].mean;
        const Floats safe = larger(variance, Floats{}) + spread(1e-5f);
        for (int lane = 0; lane < lanes; ++lane)
            out[v].scale[lane] = 1.0f / __builtin_sqrtf(safe[lane]);
    }
}

// One sub-pixel's channels: bias added, normalised over them, GELU; in place.
void norm_gelu_floats(float* half, const float* bias, const float* scale, const float* shift) {
    constexpr int64_t count = width / 4;
    for (int64_t n = 0; n < tile_size; n += lanes) {
        Floats sum{}, squares{};
        for (int64_t c = 0; c < count; ++c) sum += load(half + c * tile_size + n) + spread(bias[c]);
        const Floats mean = sum * spread(1.0f / count);
        for (int64_t c = 0; c < count; ++c) {
            const Floats value = load(half + c * tile_size + n) + spread(bias[c]) - mean;
            store(half + c * tile_size + n, value);
            squares += value * value;
        }
        Floats rate = squares * spread(1.0f / count) + spread(1e-6f);
        for (int lane = 0; lane < lanes; ++lane) rate[lane] = 1.0f / __builtin_sqrtf(rate[lane]);
        for (int64_t c = 0; c < count; ++c) {
            const Floats normal = load(half + c * tile_size + n) * rate;
            store(half + c * tile_size + n, gelu(normal * spread(scale[c]) + spread(shift[c])));
        }
    }
}

template <int masks>
void gelu_dot_masks(const float* canvas, const float* bias, const float* vectors, float* out) {
    for (int64_t part = 0; part < 4; ++part) {
        for (int64_t n = 0; n < tile_size; n += lanes) {
            Floats sums[masks] = {};
            for (int64_t c = 0; c < channels * 2; ++c) {
                const Floats raw = load(canvas + (part * channels * 2 + c) * tile_size + n);
                const Floats value = gelu(raw + spread(bias[c]));
                for (int mask = 0; mask < masks; ++mask)
                    sums[mask] += spread(vectors[mask * channels * 2 + c]) * value;
            }
            for (int mask = 0; mask < masks; ++mask)
                store(out + (mask * 4 + part) * tile_size + n, sums[mask]);
        }
    }
}

void gelu_dot(const float* canvas, const float* bias, const float* vectors, int64_t masks,
              float* out) {
    switch (masks) {
        case 1:
            return gelu_dot_masks<1>(canvas, bias, vectors, out);
        case 2:
            return gelu_dot_masks<2>(canvas, bias, vectors, out);
        case 3:
            return gelu_dot_masks<3>(canvas, bias, vectors, out);
        default:
            return gelu_dot_masks<4>(canvas, bias, vectors, out);
    }
}

}  // namespace
}  // namespace fastseg::cpu::decoder
