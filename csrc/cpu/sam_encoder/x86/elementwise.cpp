// Compiled for AVX-512 BF16, and called only where the processor has it. Nothing here may call
// inline functions of the standard library: the linker could keep its copy for everyone.
#define FASTSEG_BF16
#define FASTSEG_LANES 16
#include "cpu/sam_encoder/x86/elementwise.h"

#include "cpu/nn/simd.h"
#include "cpu/nn/transpose.h"

namespace fastseg::cpu::sam_encoder {
namespace {

using nn::Floats;
using nn::gelu;
using nn::larger;
using nn::largest_lane;
using nn::load;
using nn::power_of_two;
using nn::spread;
using nn::store;

constexpr float masked_logit = -1e30f;

FASTSEG_INLINE float total(Floats values) {
    return _mm512_reduce_add_ps((__m512)values);
}

FASTSEG_INLINE __m256i narrow_16(Floats values) {
    return (__m256i)_mm512_cvtneps_pbh((__m512)values);
}

// Start of 16 columns of a row of [.., width] in format a.
FASTSEG_INLINE Bf16* at_a(Bf16* to, int64_t row, int64_t column, int64_t width) {
    return to + (row / 16 * (width / 32) + column / 32) * 512 + row % 16 * 32 + column % 32;
}

FASTSEG_INLINE void put(Bf16* to, Floats values) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), narrow_16(values));
}

struct Statistics {
    Floats mean, scale;
};

FASTSEG_INLINE Statistics measure(const float* row, int64_t width) {
    Floats sum{}, squares{};
    for (int64_t c = 0; c < width; c += 16) sum += load(row + c);
    const Floats mean = spread(total(sum) / static_cast<float>(width));
    for (int64_t c = 0; c < width; c += 16) {
        const Floats difference = load(row + c) - mean;
        squares += difference * difference;
    }
    const float variance = total(squares) / static_cast<float>(width);
    return {mean, spread(1.0f / __builtin_sqrtf(variance + 1e-6f))};
}

FASTSEG_INLINE Floats normal(const float* row, int64_t c, const Statistics& found,
                             const float* scale, const float* shift) {
    return (load(row + c) - found.mean) * found.scale * load(scale + c) + load(shift + c);
}

FASTSEG_INLINE Floats biased(const Sums& sums, const float* row, int64_t column) {
    const Floats value = load(row + column);
    return sums.bias ? value + load(sums.bias + column) : value;
}

}  // namespace

void norm_to_a(const float* x, int64_t rows, int64_t width, const Norm& norm, int64_t first,
               Bf16* to) {
    const float *scale = &norm.scale[0], *shift = &norm.shift[0];
    for (int64_t r = 0; r < rows; ++r, x += width) {
        const Statistics found = measure(x, width);
        for (int64_t c = 0; c < width; c += 16)
            put(at_a(to, first + r, c, width), normal(x, c, found, scale, shift));
    }
}

void norm_rows(float* x, int64_t rows, int64_t width, const Norm& norm) {
    const float *scale = &norm.scale[0], *shift = &norm.shift[0];
    for (int64_t r = 0; r < rows; ++r, x += width) {
        const Statistics found = measure(x, width);
        for (int64_t c = 0; c < width; c += 16) store(x + c, normal(x, c, found, scale, shift));
    }
}

void rows_to_a(const float* x, int64_t rows, int64_t width, int64_t first, Bf16* to) {
    for (int64_t r = 0; r < rows; ++r, x += width)
        for (int64_t c = 0; c < width; c += 16) put(at_a(to, first + r, c, width), load(x + c));
}

void narrow_row(const float* from, int64_t count, Bf16* to) {
    for (int64_t c = 0; c < count; c += 16) put(to + c, load(from + c));
}

void add_to(const Sums& sums, float* x, int64_t width) {
    for (int64_t r = 0; r < sums.rows; ++r, x += width) {
        const float* row = sums.data + r * sums.stride;
        for (int64_t c = 0; c < sums.columns; c += 16)
            store(x + c, load(x + c) + biased(sums, row, c));
    }
}

void gelu_to_a(const Sums& sums, int64_t first, int64_t column, int64_t width, Bf16* to) {
    for (int64_t r = 0; r < sums.rows; ++r) {
        const float* row = sums.data + r * sums.stride;
        for (int64_t c = 0; c < sums.columns; c += 16)
            put(at_a(to, first + r, column + c, width), gelu(biased(sums, row, c)));
    }
}

void queries_to_a(const Sums& sums, const Heads& h) {
    const int64_t size = h.squares.count * h.squares.room * h.depth;
    for (int64_t r = 0; r < sums.rows; ++r) {
        const float* row = sums.data + r * sums.stride;
        const int64_t slot = h.squares.slots.data()[h.first_token + r];
        Bf16* to = h.to + h.first_head * size;
        for (int64_t column = 0; column < sums.columns; column += h.channels, to += size)
            for (int64_t c = 0; c < h.channels; c += 16)
                put(at_a(to, slot, c, h.depth), biased(sums, row, column + c));
    }
}

void keys_to_rows(const Sums& sums, const Heads& h) {
    const int64_t size = h.squares.count * h.squares.room * h.depth;
    for (int64_t r = 0; r < sums.rows; ++r) {
        const float* row = sums.data + r * sums.stride;
        const int64_t slot = h.squares.slots.data()[h.first_token + r];
        Bf16* to = h.to + h.first_head * size + slot * h.depth;
        for (int64_t column = 0; column < sums.columns; column += h.channels, to += size)
            for (int64_t c = 0; c < h.channels; c += 16) put(to + c, biased(sums, row, column + c));
    }
}

void values_to_b(const Sums& sums, const Heads& h) {
    const int64_t room = h.squares.room, size = h.squares.count * room * h.channels;
    const __m512i order =
        _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                         21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    for (int64_t r = 0; r < sums.rows; r += 2) {
        const float* row = sums.data + r * sums.stride;
        const float* next = row + sums.stride;
        const int64_t slot = h.squares.slots.data()[h.first_token + r];
        Bf16* to = h.to + h.first_head * size + slot / room * room * h.channels + slot % room * 16;
        for (int64_t column = 0; column < sums.columns; column += h.channels, to += size)
            for (int64_t c = 0; c < h.channels; c += 16) {
                const __m512bh pair = _mm512_cvtne2ps_pbh((__m512)biased(sums, next, column + c),
                                                          (__m512)biased(sums, row, column + c));
                _mm512_storeu_si512(to + c * room, _mm512_permutexvar_epi16(order, (__m512i)pair));
            }
    }
}

// Two channels of a token are one value of 32 bits: rows of those become columns.
void keys_to_b(const Bf16* rows, int64_t tokens, int64_t depth, Bf16* to) {
    const auto* from = reinterpret_cast<const float*>(rows);
    auto* out = reinterpret_cast<float*>(to);
    for (int64_t t = 0; t < tokens; t += 16)
        for (int64_t pair = 0; pair < depth / 2; pair += 16)
            nn::transpose_block(from + t * (depth / 2) + pair, depth / 2,
                                out + (t / 16 * (depth / 2) + pair) * 16, 16);
}

namespace {

constexpr float doublings_each = 1.44269504f;  // of e: logits are taken to the base 2

FASTSEG_INLINE void put_two(Bf16* to, Floats low, Floats high) {
    _mm512_storeu_si512(to, (__m512i)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low));
}

// Weights in bfloat16 are as exact at 2^60 as at 1, so the running maximum that is subtracted from
// the logits of a query may lag behind. It only moves up when a logit exceeds it by this much.
constexpr float lag = 60.0f;

// Make the weights of a query relative to another maximum.
FASTSEG_INLINE void rescale_to(const SoftmaxStep& s, int64_t r, float maximum) {
    if (s.sums[r] > 0) {
        const Floats factor = power_of_two(spread(s.running_max[r] - maximum));
        s.sums[r] *= factor[0];
        float* weighted_values = s.weighted_values + r * s.channels;
        for (int64_t c = 0; c < s.channels; c += 16)
            store(weighted_values + c, load(weighted_values + c) * factor);
    }
    s.running_max[r] = maximum;
}

// A row of a grid of keys: logits of 16 * `vectors` of them, without the maximum.
template <int vectors>
struct Row {
    Floats across[vectors];

    FASTSEG_INLINE Row(const float* from) {
        for (int v = 0; v < vectors; ++v) across[v] = load(from + v * 16) * spread(doublings_each);
    }
    FASTSEG_INLINE Floats logit(const float* gemm_sum, int v, Floats scale, Floats along) const {
        return load(gemm_sum + v * 16) * scale + (across[v] + along);
    }
};

template <int vectors>
void softmax_rows_of(const SoftmaxStep& s) {
    constexpr int64_t grid = vectors * 16;
    const Floats scale = spread(s.scale * doublings_each);
    for (int64_t r = 0; r < s.rows; ++r) {
        const float* along = s.along + r * s.steps;
        const float* gemm_sum = s.logits + r * s.stride;
        const Row<vectors> row(s.across + r * s.steps - r);
        const auto highest = [&] {
            Floats high = spread(masked_logit);
            for (int64_t k = 0; k < s.keys; k += grid)
                for (int v = 0; v < vectors; ++v)
                    high = larger(high, row.logit(gemm_sum + k, v, scale,
                                                  spread(along[k / grid] * doublings_each)));
            return largest_lane(high);
        };
        if (s.first) rescale_to(s, r, highest());
        Floats sum{}, high{};
        const auto exponentiate = [&] {
            sum = Floats{};
            high = spread(masked_logit);
            for (int64_t k = 0; k < s.keys; k += grid) {
                const Floats offset = spread(along[k / grid] * doublings_each - s.running_max[r]);
                Floats powers[vectors];
                for (int v = 0; v < vectors; ++v) {
                    const Floats logit = row.logit(gemm_sum + k, v, scale, offset);
                    high = larger(high, logit);
                    powers[v] = power_of_two(logit);
                    sum += powers[v];
                }
                if constexpr (vectors % 2 == 0)
                    for (int v = 0; v < vectors; v += 2)
                        put_two(at_a(s.weights, r, k + v * 16, s.padded), powers[v], powers[v + 1]);
                else
                    for (int v = 0; v < vectors; ++v)
                        put(at_a(s.weights, r, k + v * 16, s.padded), powers[v]);
            }
        };
        exponentiate();
        if (!s.first && largest_lane(high) > lag) {
            rescale_to(s, r, highest());
            exponentiate();
        }
        s.sums[r] += total(sum);
    }
}

}  // namespace

void softmax_window(const SoftmaxStep& s) {
    constexpr int64_t keys = window * window, vectors = (keys + 15) / 16;
    const Floats scale = spread(s.scale * doublings_each);
    __m512i down[vectors], right[vectors];
    alignas(64) int32_t key_row[16], key_column[16];
    for (int64_t v = 0; v < vectors; ++v) {
        for (int lane = 0; lane < 16; ++lane) {
            key_row[lane] = static_cast<int32_t>((v * 16 + lane) / window);
            key_column[lane] = static_cast<int32_t>((v * 16 + lane) % window);
        }
        down[v] = _mm512_load_si512(key_row);
        right[v] = _mm512_load_si512(key_column);
    }
    constexpr __mmask16 counting = (1 << (keys - (vectors - 1) * 16)) - 1;
    for (int64_t r = 0; r < s.rows; ++r) {
        const Floats along = load(s.along + r * s.steps - r / window) * spread(doublings_each);
        const Floats across = load(s.across + r * s.steps - r % window) * spread(doublings_each);
        Floats logits[vectors], high = spread(masked_logit);
#pragma GCC unroll 16
        for (int64_t v = 0; v < vectors; ++v) {
            const __m512 added = _mm512_add_ps(_mm512_permutexvar_ps(down[v], (__m512)along),
                                               _mm512_permutexvar_ps(right[v], (__m512)across));
            logits[v] = load(s.logits + r * s.stride + v * 16) * scale + (Floats)added;
            if (v + 1 == vectors)
                logits[v] = (Floats)_mm512_mask_blend_ps(counting, (__m512)spread(masked_logit),
                                                         (__m512)logits[v]);
            high = larger(high, logits[v]);
        }
        const Floats maximum = spread(largest_lane(high));
        Floats sum{};
#pragma GCC unroll 16
        for (int64_t v = 0; v < vectors; ++v) {
            const Floats power = power_of_two(logits[v] - maximum);
            sum += power;
            put(at_a(s.weights, r, v * 16, s.padded), power);
        }
        for (int64_t k = vectors * 16; k < s.padded; k += 16)
            put(at_a(s.weights, r, k, s.padded), Floats{});
        s.sums[r] = total(sum);
    }
}

void softmax_rows(const SoftmaxStep& s, int64_t grid) {
    switch (grid) {
        case 16:
            return softmax_rows_of<1>(s);
        case 32:
            return softmax_rows_of<2>(s);
        case 48:
            return softmax_rows_of<3>(s);
        default:
            return softmax_rows_of<4>(s);
    }
}

void normalise_row(const float* weighted_values, float sum, int64_t channels, int64_t row,
                   int64_t column, int64_t width, Bf16* to) {
    const Floats share = spread(1.0f / sum);
    for (int64_t c = 0; c < channels; c += 16)
        put(at_a(to, row, column + c, width), load(weighted_values + c) * share);
}

}  // namespace fastseg::cpu::sam_encoder
