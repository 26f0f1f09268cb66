// Weighing a few rows of one column and comparing them with the thresholds: the innermost loop.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/axis.h"
#include "kernels.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace fastseg::cpu {

struct PixelCounts {
    int64_t low = 0, high = 0;  // pixels above the outer thresholds
};

// The weights of `lanes` rows, which all weigh the same three values.
struct WeightedRows {
    const float* weights[taps];  // [lanes]
    const float* values;         // [taps]
};

#ifdef __SSE2__
static_assert(lanes == 4);

// Every x86-64 processor has these vectors. A lane counts at most a quarter of a mask's pixels,
// rounded up, which 32 bits hold.
class Sieve {
  public:
    explicit Sieve(Thresholds thresholds)
        : low_(_mm_set1_ps(thresholds.low)),
          middle_(_mm_set1_ps(thresholds.middle)),
          high_(_mm_set1_ps(thresholds.high)) {}

    // Count the rows above the outer thresholds, of the first `count` rows; return those above the
    // middle one, the first row as the lowest bit. Bits beyond `count` mean nothing.
    unsigned pass(const WeightedRows& rows, int64_t count) {
        const auto product = [&](int tap) {
            return _mm_mul_ps(_mm_loadu_ps(rows.weights[tap]), _mm_set1_ps(rows.values[tap]));
        };
        const __m128 sum = _mm_add_ps(_mm_add_ps(product(0), product(1)), product(2));
        __m128i low = _mm_castps_si128(_mm_cmpgt_ps(sum, low_));
        __m128i high = _mm_castps_si128(_mm_cmpgt_ps(sum, high_));
        if (count < lanes) {
            const __m128i last = _mm_set1_epi32(static_cast<int>(count));
            const __m128i valid = _mm_cmpgt_epi32(last, _mm_setr_epi32(0, 1, 2, 3));
            low = _mm_and_si128(low, valid);
            high = _mm_and_si128(high, valid);
        }
        // A lane that is true is -1.
        lows_ = _mm_sub_epi32(lows_, low);
        highs_ = _mm_sub_epi32(highs_, high);
        return static_cast<unsigned>(_mm_movemask_ps(_mm_cmpgt_ps(sum, middle_)));
    }

    PixelCounts counted() const { return {total(lows_), total(highs_)}; }

  private:
    static int64_t total(__m128i lanes_of_counts) {
        uint32_t counts[lanes];
        _mm_storeu_si128(reinterpret_cast<__m128i*>(counts), lanes_of_counts);
        return int64_t{counts[0]} + counts[1] + counts[2] + counts[3];
    }

    __m128 low_, middle_, high_;
    __m128i lows_ = _mm_setzero_si128(), highs_ = _mm_setzero_si128();
};

#else

class Sieve {
  public:
    explicit Sieve(Thresholds thresholds) : thresholds_(thresholds) {}

    unsigned pass(const WeightedRows& rows, int64_t count) {
        unsigned above = 0;
        for (unsigned lane = 0; lane < count; ++lane) {
            const float sum =
                weigh(rows.weights[0][lane], rows.weights[1][lane], rows.weights[2][lane],
                      rows.values[0], rows.values[1], rows.values[2]);
            counts_.low += sum > thresholds_.low;
            counts_.high += sum > thresholds_.high;
            above |= static_cast<unsigned>(sum > thresholds_.middle) << lane;
        }
        return above;
    }

    PixelCounts counted() const { return counts_; }

  private:
    Thresholds thresholds_;
    PixelCounts counts_;
};

#endif

}  // namespace fastseg::cpu
