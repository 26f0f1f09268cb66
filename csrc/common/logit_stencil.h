// The arithmetic of sampling low-resolution logits, written once for every processor.
//
// SAM enlarges its logits twice, each time bilinearly with pixel centres at half-integers: from
// `low` values to the `side` of the square, then, cropped to `resized`, to `size` pixels of the
// image. Both steps are linear, so each output is a weighted sum of neighbouring low-resolution
// values. As side >= low, neighbouring pixels of the square are at most one low-resolution value
// apart: three consecutive values are enough.
//
// Weights are computed in double precision and rounded to float32 once. Compile without
// contraction to fused multiply-add: `weighted_sum` must round the same way everywhere.
#pragma once

#include <cstdint>

#include "common/host_device.h"

namespace fastseg {

constexpr int taps = 3;

// Logits beyond this, and infinities, are taken as this; a NaN is taken as its negative, so that
// what is not a number is background. Far above any threshold, far below overflow.
constexpr float logit_limit = 0x1p120f;

struct Stencil {
    int64_t first;       // index of the first value; the others follow, the last one repeats
    float weight[taps];  // none negative, sum 1 up to rounding
};

// The two inputs of an output of one bilinear step.
struct BilinearSource {
    int64_t left, right;
    double fraction;  // of the way from left to right
};

FASTSEG_HOST_DEVICE inline BilinearSource bilinear_source(int64_t position, int64_t inputs,
                                                          int64_t outputs) {
    const double scale = static_cast<double>(inputs) / static_cast<double>(outputs);
    double source = scale * (static_cast<double>(position) + 0.5) - 0.5;
    if (source < 0.0) source = 0.0;
    int64_t left = static_cast<int64_t>(source);
    if (left > inputs - 1) left = inputs - 1;
    const int64_t right = left + 1 < inputs ? left + 1 : left;
    return {left, right, source - static_cast<double>(left)};
}

// One axis of the double enlargement.
struct Enlargement {
    int64_t low, side, resized, size;
};

FASTSEG_HOST_DEVICE inline Stencil stencil(int64_t position, Enlargement axis) {
    const BilinearSource outer = bilinear_source(position, axis.resized, axis.size);
    const BilinearSource left = bilinear_source(outer.left, axis.low, axis.side);
    const BilinearSource right = bilinear_source(outer.right, axis.low, axis.side);
    double weight[taps] = {0.0, 0.0, 0.0};
    weight[0] += (1.0 - outer.fraction) * (1.0 - left.fraction);
    weight[left.right - left.left] += (1.0 - outer.fraction) * left.fraction;
    weight[right.left - left.left] += outer.fraction * (1.0 - right.fraction);
    weight[right.right - left.left] += outer.fraction * right.fraction;
    Stencil result{left.left, {0.0f, 0.0f, 0.0f}};
    for (int tap = 0; tap < taps; ++tap) result.weight[tap] = static_cast<float>(weight[tap]);
    return result;
}

FASTSEG_HOST_DEVICE inline float finite(float logit) {
    if (!(logit > -logit_limit)) return -logit_limit;
    return logit < logit_limit ? logit : logit_limit;
}

FASTSEG_HOST_DEVICE inline float weighted_sum(float w0, float w1, float w2, float a, float b,
                                              float c) {
    return (w0 * a + w1 * b) + w2 * c;
}

// Margins that decide a threshold: where every tap is greater than `above`, so is every weighted
// sum greater than the threshold; where every tap is at most `below`, so is no weighted sum.
struct Margin {
    float below, above;
};

// Proof. Let e = 2^-24 and let m be the least of the nine taps. Weights are not negative and
// rounding is monotone, so the computed sum is not less than the sum computed with m in place of
// every tap. That one is m times (sum of exact weights = 1) times at most four factors 1 +- e an
// axis (the rounding of the weights, of the products, of the two additions): within 8.001 e |m| of
// m over both axes, plus a few 2^-149 if products underflow. For m > t + 16 e |t| + 1e-37 this
// leaves more than t: the 16 e exceed the 8.001 e and the rounding of `above` itself, and 1e-37
// exceeds what underflow can take (for t = 0: the largest weight of an axis is at least 1/3, and
// 1e-37 / 9 is still more than 0). The same with the greatest tap and reversed signs gives `below`.
FASTSEG_HOST_DEVICE inline Margin margin(float threshold) {
    const double t = threshold;
    const double width = (t < 0 ? -t : t) * 0x1p-20 + 1e-37;
    return {static_cast<float>(t - width), static_cast<float>(t + width)};
}

}  // namespace fastseg
