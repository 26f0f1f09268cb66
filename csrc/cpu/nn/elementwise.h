// Passes over the tiles of SAM's decoder in float32, image tokens along the lanes.
#pragma once

#include "cpu/nn/simd.h"

namespace fastseg::cpu::nn {
namespace {

constexpr float lag = 8.0f;  // a logit may exceed the running maximum by this: e^8 is harmless

// Softmax over the `tokens` rows of every head, in place; `beside_zero` with one more row of zeros,
// which there is not.
template <bool beside_zero>
void softmax_of_heads(float* logits, int64_t tokens) {
    for (int64_t head = 0; head < heads; ++head) {
        float* rows = logits + head * tokens * tile_size;
        for (int64_t n = 0; n < tile_size; n += lanes) {
            Floats largest = beside_zero ? Floats{} : load(rows + n);
            for (int64_t t = beside_zero ? 0 : 1; t < tokens; ++t)
                largest = larger(largest, load(rows + t * tile_size + n));
            Floats sum = beside_zero ? exponential(-largest) : Floats{};
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

// See KernelTable::softmax_beside_zero.
void softmax_beside_zero(float* logits, int64_t tokens) {
    softmax_of_heads<true>(logits, tokens);
}

// Logits to weights, each row of which is handed to `write(row, weights)`; see OnlineSoftmax.
template <class Write>
FASTSEG_INLINE bool online_softmax_rows(const OnlineSoftmax& w, const Write& write) {
    constexpr int vectors = tile_size / lanes;
    bool moved = false;
    for (int64_t row = 0; row < w.rows; ++row) {
        Floats values[vectors];
        for (int v = 0; v < vectors; ++v) values[v] = load(w.logits + row * tile_size + v * lanes);
        Floats largest = values[0];
        for (int v = 1; v < vectors; ++v) largest = larger(largest, values[v]);
        float* sums = w.sums + row * sum_lanes;
        Floats sum = load(sums);
        w.rescale[row] = 1.0f;
        if (any_above(largest, w.running_max[row] + lag)) {
            const float top = largest_lane(largest);
            w.rescale[row] = exponential(spread(w.running_max[row] - top))[0];
            sum *= spread(w.rescale[row]);
            w.running_max[row] = top;
            moved = true;
        }
        const Floats maximum = spread(w.running_max[row]);
        for (int v = 0; v < vectors; ++v) {
            values[v] = exponential(values[v] - maximum);
            sum += values[v];
        }
        store(sums, sum);
        write(row, values);
    }
    return moved;
}

// See KernelTable::merge.
void merge(float* x, const float* y, const float* x_scale, const float* y_scale, int64_t rows) {
    for (int64_t c = 0; c < width; ++c, x += rows, y += rows)
        for (int64_t row = 0; row < rows; row += lanes)
            store(x + row,
                  load(x + row) * load(x_scale + row) + load(y + row) * load(y_scale + row));
}

struct Statistics {
    Floats mean, scale;  // of one vector of tokens
};

// Sums over the channels of one vector of tokens.
struct Moments {
    Floats sum{}, squares{};

    FASTSEG_INLINE void add(Floats value) {
        sum += value;
        squares += value * value;
    }

    // Mean and 1 / deviation of `count` channels.
    FASTSEG_INLINE Statistics statistics(float count, float epsilon) const {
        const Floats mean = sum * spread(1.0f / count);
        const Floats variance = squares * spread(1.0f / count) - mean * mean;
        return {mean, inverse_root(larger(variance, Floats{}) + spread(epsilon))};
    }
};

constexpr float head_epsilon = 1e-6f;  // of the layer norm between the steps of upscaling

// sums += residual, and each token's mean and 1 / deviation over the channels.
template <int vectors>
FASTSEG_INLINE void add_and_measure(float* sums, const float* residual, int64_t n, float epsilon,
                                    Statistics (&out)[vectors]) {
    Moments moments[vectors];
    for (int64_t c = 0; c < width; ++c) {
        for (int v = 0; v < vectors; ++v) {
            float* at = sums + c * tile_size + n + v * lanes;
            const Floats value = load(at) + load(residual + c * tile_size + n + v * lanes);
            store(at, value);
            moments[v].add(value);
        }
    }
    for (int v = 0; v < vectors; ++v) out[v] = moments[v].statistics(width, epsilon);
}

// See KernelTable::column_dots.
void column_dots(const float* a, const float* b, int64_t rows, float* to) {
    constexpr int vectors = tile_size / lanes;
    Floats sums[vectors] = {};
    for (int64_t row = 0; row < rows; ++row, a += tile_size, b += tile_size)
        for (int v = 0; v < vectors; ++v) sums[v] += load(a + v * lanes) * load(b + v * lanes);
    for (int v = 0; v < vectors; ++v) store(to + v * lanes, sums[v]);
}

// See KernelTable::scale_columns.
void scale_columns(float* x, int64_t rows, const float* by) {
    constexpr int vectors = tile_size / lanes;
    Floats factors[vectors];
    for (int v = 0; v < vectors; ++v) factors[v] = load(by + v * lanes);
    for (int64_t row = 0; row < rows; ++row, x += tile_size)
        for (int v = 0; v < vectors; ++v) store(x + v * lanes, load(x + v * lanes) * factors[v]);
}

// See KernelTable::inverse_deviations.
void inverse_deviations(const float* squares, float epsilon, float* to) {
    for (int64_t n = 0; n < tile_size; n += lanes) {
        const Floats variance = load(squares + n) * spread(1.0f / width);
        // In this order, what is not a number stays so.
        store(to + n, inverse_root(larger(Floats{}, variance) + spread(epsilon)));
    }
}

// See KernelTable::scale_gelu.
void scale_gelu(float* rows, int64_t count, const float* scale, const float* shift) {
    for (int64_t row = 0; row < count; ++row)
        for (int64_t n = 0; n < tile_size; n += lanes) {
            float* at = rows + row * tile_size + n;
            store(at, gelu(load(at) * spread(scale[row]) + spread(shift[row])));
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
}  // namespace fastseg::cpu::nn
