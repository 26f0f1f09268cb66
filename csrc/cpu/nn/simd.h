// Vectors of floats of any width in plain C++ (GCC and Clang), and functions of them. Each kernel
// table includes this and is compiled for its own instructions; all is in an unnamed namespace,
// so that no two kernel tables share code.
#pragma once

#include <cstdint>
#include <cstring>

#if FASTSEG_LANES >= 8
#include <immintrin.h>
#endif

#include "cpu/nn/kernels.h"

#define FASTSEG_INLINE inline __attribute__((always_inline))

namespace fastseg::cpu::nn {
namespace {

template <int lanes>
struct Lanes;
template <>
struct Lanes<4> {
    typedef float Floats __attribute__((vector_size(16)));
    typedef int32_t Integers __attribute__((vector_size(16)));
};
template <>
struct Lanes<8> {
    typedef float Floats __attribute__((vector_size(32)));
    typedef int32_t Integers __attribute__((vector_size(32)));
};
template <>
struct Lanes<16> {
    typedef float Floats __attribute__((vector_size(64)));
    typedef int32_t Integers __attribute__((vector_size(64)));
};

constexpr int lanes = FASTSEG_LANES;
using Floats = Lanes<lanes>::Floats;
using Integers = Lanes<lanes>::Integers;

FASTSEG_INLINE Floats load(const float* from) {
    Floats value;
    std::memcpy(&value, from, sizeof(value));
    return value;
}

FASTSEG_INLINE void store(float* to, Floats value) {
    std::memcpy(to, &value, sizeof(value));
}

FASTSEG_INLINE Floats spread(float value) {
    return value - Floats{};
}

// b where either is not a number. Compilers make two instructions of the comparison.
FASTSEG_INLINE Floats larger(Floats a, Floats b) {
#if FASTSEG_LANES == 16
    return (Floats)_mm512_max_ps((__m512)a, (__m512)b);
#elif FASTSEG_LANES == 8
    return (Floats)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return a > b ? a : b;
#endif
}

FASTSEG_INLINE Floats smaller(Floats a, Floats b) {
#if FASTSEG_LANES == 16
    return (Floats)_mm512_min_ps((__m512)a, (__m512)b);
#elif FASTSEG_LANES == 8
    return (Floats)_mm256_min_ps((__m256)a, (__m256)b);
#else
    return a < b ? a : b;
#endif
}

// True if any lane of a is greater than b.
FASTSEG_INLINE bool any_above(Floats a, float b) {
#if FASTSEG_LANES == 16
    return _mm512_cmp_ps_mask((__m512)a, (__m512)spread(b), _CMP_GT_OQ) != 0;
#elif FASTSEG_LANES == 8
    return _mm256_movemask_ps(_mm256_cmp_ps((__m256)a, (__m256)spread(b), _CMP_GT_OQ)) != 0;
#else
    bool any = false;
    for (int lane = 0; lane < lanes; ++lane) any |= a[lane] > b;
    return any;
#endif
}

// 1 / sqrt(x), both steps rounded as IEEE 754 asks.
FASTSEG_INLINE Floats inverse_root(Floats x) {
#if FASTSEG_LANES == 16
    return spread(1.0f) / (Floats)_mm512_sqrt_ps((__m512)x);
#elif FASTSEG_LANES == 8
    return spread(1.0f) / (Floats)_mm256_sqrt_ps((__m256)x);
#else
    for (int lane = 0; lane < lanes; ++lane) x[lane] = __builtin_sqrtf(x[lane]);
    return spread(1.0f) / x;
#endif
}

FASTSEG_INLINE float largest_lane(Floats values) {
    float largest = values[0];
    for (int lane = 1; lane < lanes; ++lane)
        largest = values[lane] > largest ? values[lane] : largest;
    return largest;
}

#ifdef FASTSEG_BF16

// 2^x: relative error below 1e-5, far less than that of a weight in bfloat16; 0 for the smallest.
FASTSEG_INLINE Floats power_of_two(Floats x) {
    const Floats rest = (Floats)_mm512_reduce_ps((__m512)x, _MM_FROUND_TO_NEAREST_INT);
    Floats power = spread(9.6181291e-3f);
    power = power * rest + spread(5.5504109e-2f);
    power = power * rest + spread(2.4022651e-1f);
    power = power * rest + spread(6.9314718e-1f);
    power = power * rest + spread(1.0f);
    return (Floats)_mm512_scalef_ps((__m512)power, (__m512)(x - rest));
}

// exp(x), as exact as that.
FASTSEG_INLINE Floats exponential(Floats x) {
    return power_of_two(larger(x, spread(-87.0f)) * spread(1.44269504f));
}

// x times the normal distribution's integral: absolute error below 2e-4. What is missing from the
// larger of x and 0 is |x| times the integral's tail: here a polynomial, fitted for x as a layer
// norm leaves it (root of the mean square of the error 9e-5), nearly 0 at 3.9 and constant beyond.
FASTSEG_INLINE Floats gelu(Floats x) {
    constexpr int smaller_size = 0b1010;  // without its sign
    const Floats size = (Floats)_mm512_range_ps((__m512)x, (__m512)spread(3.9f), smaller_size);
    Floats tail = spread(-6.926127826e-04f);
    tail = tail * size + spread(1.058170944e-02f);
    tail = tail * size + spread(-6.100578234e-02f);
    tail = tail * size + spread(1.488457471e-01f);
    tail = tail * size + spread(-5.450592190e-02f);
    tail = tail * size + spread(-3.836196363e-01f);
    tail = tail * size + spread(4.989812672e-01f);
    return larger(Floats{}, x) - size * tail;  // in this order, what is not a number stays so
}

#else

// exp(x) for x in -87..88: relative error below 2e-7.
FASTSEG_INLINE Floats bounded_exponential(Floats x) {
    const Floats magic = spread(12582912.0f);  // 1.5 * 2^23: adding it rounds to whole numbers
    const Floats whole = (x * spread(1.44269504f) + magic) - magic;
    const Floats rest = (x - whole * spread(0.693359375f)) + whole * spread(2.12194440e-4f);
    Floats power = spread(1.9875691500e-4f);
    power = power * rest + spread(1.3981999507e-3f);
    power = power * rest + spread(8.3334519073e-3f);
    power = power * rest + spread(4.1665795894e-2f);
    power = power * rest + spread(1.6666665459e-1f);
    power = power * rest + spread(5.0000001201e-1f);
    power = power * (rest * rest) + (rest + spread(1.0f));
    const Integers exponent = __builtin_convertvector(whole, Integers) << 23;
    return (Floats)((Integers)power + exponent);
}

// exp(x), as exact as that; smaller x give less than 2e-38.
FASTSEG_INLINE Floats exponential(Floats x) {
    return bounded_exponential(smaller(larger(x, spread(-87.0f)), spread(88.0f)));
}

// A polynomial from its highest coefficient down.
template <int count>
FASTSEG_INLINE Floats polynomial(const float (&coefficients)[count], Floats x) {
    Floats sum = spread(coefficients[0]);
#pragma GCC unroll 8
    for (int each = 1; each < count; ++each) sum = sum * x + spread(coefficients[each]);
    return sum;
}

// x times the normal distribution's integral: absolute error below 3e-7 |x|. The integral less one
// half is x times a ratio of polynomials in x * x, fitted up to 5.6 for the least largest error
// (1e-8 before rounding), and constant beyond.
FASTSEG_INLINE Floats gelu(Floats x) {
    constexpr float above[] = {2.21443888e-8f,  6.356200015e-6f, 1.738403104e-4f,
                               4.707197685e-3f, 3.437537336e-2f, 3.989422217e-1f};
    constexpr float below[] = {1.180159532e-6f, 7.509712823e-5f, 1.912923012e-3f,
                               2.893962316e-2f, 2.528319984e-1f, 1.0f};
    const Floats near = smaller(spread(5.6f), larger(spread(-5.6f), x));
    const Floats square = near * near;
    const Floats ratio = polynomial(above, square) / polynomial(below, square);
    return x * (near * ratio + spread(0.5f));
}

#endif

}  // namespace
}  // namespace fastseg::cpu::nn
