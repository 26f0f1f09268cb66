#include "cpu/echo_unet/x86/conv_amx.h"

#define FASTSEG_BF16
#define FASTSEG_LANES 16
#include "cpu/nn/simd.h"

namespace fastseg::cpu::echo_unet {
namespace {

using nn::Floats;
using nn::load;
using nn::spread;

constexpr int64_t tile_pixels = 16, block_pixels = 32;
constexpr int64_t tile_bytes = 1024;

// Two tiles of pixels; the second may be missing.
struct Pair {
    int64_t y[2], x[2];
};

// Sums of a block: [32 pixels, 32 columns].
struct alignas(64) Sums {
    float values[block_pixels * 32];
};

// Tile registers 0 to 3 hold sums, 4 and 5 pixels, 6 and 7 the kernel.
template <bool two_rows, bool two_columns>
FASTSEG_INLINE void multiply(const Convolution& c, const Pair& pair, const std::byte* b,
                             const float* bias, Sums& sums) {
    // A stride of 0: every row starts as the bias.
    _tile_loadd(0, bias, 0);
    if constexpr (two_columns) _tile_loadd(1, bias + 16, 0);
    if constexpr (two_rows) _tile_loadd(2, bias, 0);
    if constexpr (two_rows && two_columns) _tile_loadd(3, bias + 16, 0);
    for (int64_t index = 0; index < c.count; ++index) {
        const Source& source = c.sources[index];
        const auto pixel = static_cast<size_t>(source.pixel);
        const std::byte* a0 = source.origin + pair.y[0] * source.row + pair.x[0] * source.pixel;
        const std::byte* a1 = source.origin + pair.y[1] * source.row + pair.x[1] * source.pixel;
        for (int64_t step = 0; step < source.steps; ++step, b += tile_bytes) {
            const int64_t offset = source.offsets[step];
            _tile_loadd(4, a0 + offset, pixel);
            _tile_loadd(6, b, 64);
            _tile_dpbf16ps(0, 4, 6);
            if constexpr (two_columns) {
                _tile_loadd(7, b + c.column_bytes, 64);
                _tile_dpbf16ps(1, 4, 7);
            }
            if constexpr (two_rows) {
                _tile_loadd(5, a1 + offset, pixel);
                _tile_dpbf16ps(2, 5, 6);
                if constexpr (two_columns) _tile_dpbf16ps(3, 5, 7);
            }
        }
    }
    constexpr size_t stride = 32 * sizeof(float);
    _tile_stored(0, sums.values, stride);
    if constexpr (two_columns) _tile_stored(1, sums.values + 16, stride);
    if constexpr (two_rows) _tile_stored(2, sums.values + tile_pixels * 32, stride);
    if constexpr (two_rows && two_columns)
        _tile_stored(3, sums.values + tile_pixels * 32 + 16, stride);
}

FASTSEG_INLINE void multiply_any(const Convolution& c, const Pair& pair, bool two_rows,
                                 bool two_columns, const std::byte* b, const float* bias,
                                 Sums& sums) {
    if (two_rows && two_columns)
        multiply<true, true>(c, pair, b, bias, sums);
    else if (two_rows)
        multiply<true, false>(c, pair, b, bias, sums);
    else if (two_columns)
        multiply<false, true>(c, pair, b, bias, sums);
    else
        multiply<false, false>(c, pair, b, bias, sums);
}

// Sums that are stored while the next ones are multiplied.
struct PendingStore {
    const float* sums = nullptr;
    Bf16* to[2];
    int64_t pixels[2];
    bool wide;
};

FASTSEG_INLINE void store_pending(const PendingStore& pending, int64_t stride, bool relu) {
    for (int64_t tile = 0; tile < 2; ++tile) {
        const float* from = pending.sums + tile * tile_pixels * 32;
        Bf16* to = pending.to[tile];
        for (int64_t p = 0; p < pending.pixels[tile]; ++p, from += 32, to += stride) {
            // A bfloat16 below zero is a negative number to integers too.
            if (pending.wide) {
                auto both =
                    (__m512i)_mm512_cvtne2ps_pbh((__m512)load(from + 16), (__m512)load(from));
                if (relu) both = _mm512_max_epi16(both, _mm512_setzero_si512());
                _mm512_storeu_si512(to, both);
            } else {
                auto rounded = (__m256i)_mm512_cvtneps_pbh((__m512)load(from));
                if (relu) rounded = _mm256_max_epi16(rounded, _mm256_setzero_si256());
                _mm256_storeu_si256((__m256i*)to, rounded);
            }
        }
    }
}

// Tiles of the rows of a part, one after another.
struct Tiles {
    int64_t across, y0, count, width;

    Tiles(int64_t width, const Part& part)
        : across((width + tile_pixels - 1) / tile_pixels),
          y0(part.y0),
          count((part.y1 - part.y0) * across),
          width(width) {}

    int64_t y(int64_t tile) const { return y0 + tile / across; }
    int64_t x(int64_t tile) const { return tile % across * tile_pixels; }
    int64_t pixels(int64_t tile) const {
        const int64_t left = width - x(tile);
        return left < tile_pixels ? left : tile_pixels;
    }
    Pair pair(int64_t tile) const {
        const int64_t second = tile + 1 < count ? tile + 1 : tile;
        return {{y(tile), y(second)}, {x(tile), x(second)}};
    }
};

// A kernel matrix that fits the second-level cache beside the maps is read for every block of
// pixels, which stay in the first-level cache; of a larger one, 32 columns stay and all pixels are
// read.
constexpr int64_t cached_bytes = 600'000;

}  // namespace

void convolve(const Convolution& c, const Target& target, const Part& part) {
    const Tiles tiles(c.width, part);
    Sums sums[2];
    int buffer = 0;
    PendingStore pending;
    const auto block = [&](int64_t tile, int64_t n) {
        const Pair pair = tiles.pair(tile);
        const bool two_rows = tile + 1 < tiles.count, two_columns = part.n1 - n > 16;
        multiply_any(c, pair, two_rows, two_columns, c.kernel + n / 16 * c.column_bytes, c.bias + n,
                     sums[buffer]);
        if (pending.sums) store_pending(pending, target.pixel, c.relu);
        pending.sums = sums[buffer].values;
        pending.wide = two_columns;
        for (int64_t i = 0; i < 2; ++i) {
            pending.to[i] = target.origin + pair.y[i] * target.row + pair.x[i] * target.pixel +
                            n / target.group * target.spread + n % target.group;
            pending.pixels[i] = i == 0 || two_rows ? tiles.pixels(tile + i) : 0;
        }
        buffer ^= 1;
    };
    if ((part.n1 - part.n0) / 16 * c.column_bytes <= cached_bytes) {
        for (int64_t tile = 0; tile < tiles.count; tile += 2)
            for (int64_t n = part.n0; n < part.n1; n += 32) block(tile, n);
    } else {
        for (int64_t n = part.n0; n < part.n1; n += 32)
            for (int64_t tile = 0; tile < tiles.count; tile += 2) block(tile, n);
    }
    if (pending.sums) store_pending(pending, target.pixel, c.relu);
}

void convolve_to_planes(const Convolution& c, int64_t classes, float* planes, int64_t plane,
                        const Part& part) {
    const Tiles tiles(c.width, part);
    const __m512i steps =
        _mm512_mullo_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                           _mm512_set1_epi32(32));
    Sums sums;
    for (int64_t tile = 0; tile < tiles.count; tile += 2) {
        const bool two_rows = tile + 1 < tiles.count;
        multiply_any(c, tiles.pair(tile), two_rows, false, c.kernel, c.bias, sums);
        for (int64_t i = 0; i < (two_rows ? 2 : 1); ++i) {
            const auto some = static_cast<__mmask16>((1u << tiles.pixels(tile + i)) - 1);
            float* to = planes + tiles.y(tile + i) * c.width + tiles.x(tile + i);
            for (int64_t k = 0; k < classes; ++k, to += plane) {
                const auto logits =
                    (Floats)_mm512_i32gather_ps(steps, sums.values + i * tile_pixels * 32 + k, 4);
                const Floats odds = nn::exponential(nn::smaller(-logits, spread(80.0f)));
                _mm512_mask_storeu_ps(to, some, (__m512)(spread(1.0f) / (spread(1.0f) + odds)));
            }
        }
    }
}

void frame_to_map(const float* frame, int64_t channels, int64_t side, Bf16* origin, int64_t row,
                  int64_t y0, int64_t y1) {
    const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
    for (int64_t y = y0; y < y1; ++y)
        for (int64_t x = 0; x < side; x += 16) {
            const int64_t left = side - x < 16 ? side - x : 16;
            const auto some = static_cast<__mmask16>((1u << left) - 1);
            __m512 values[4] = {};
            for (int64_t channel = 0; channel < channels; ++channel)
                values[channel] =
                    _mm512_maskz_loadu_ps(some, frame + (channel * side + y) * side + x);
            // Two channels of a pixel side by side in 32 bits.
            const auto widened = [](__m512 value) {
                return _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(value));
            };
            const auto both = [&](int i) {
                return _mm512_or_si512(widened(values[i]),
                                       _mm512_slli_epi32(widened(values[i + 1]), 16));
            };
            const __m512i first = both(0), second = both(2);
            Bf16* to = origin + y * row + x * 4;
            const auto store = [&](__m512i pixels, int64_t from) {
                const int64_t here = left - from;
                if (here <= 0) return;
                const auto stored = static_cast<__mmask8>(here >= 8 ? 0xFF : (1u << here) - 1);
                _mm512_mask_storeu_epi64(to + from * 4, stored, pixels);
            };
            store(_mm512_permutex2var_epi32(first, low, second), 0);
            store(_mm512_permutex2var_epi32(first, high, second), 8);
        }
}

void pool_row(const Bf16* above, int64_t row, int64_t stride, int64_t channels, int64_t pixels,
              Bf16* to) {
    for (int64_t x = 0; x < pixels; ++x, above += 2 * stride, to += stride)
        for (int64_t c = 0; c < channels; c += 16) {
            // Numbers that are not negative have the order of their bits.
            const auto at = [&](int64_t offset) {
                return _mm256_loadu_si256((const __m256i*)(above + offset + c));
            };
            _mm256_storeu_si256((__m256i*)(to + c),
                                _mm256_max_epi16(_mm256_max_epi16(at(0), at(stride)),
                                                 _mm256_max_epi16(at(row), at(row + stride))));
        }
}

}  // namespace fastseg::cpu::echo_unet
