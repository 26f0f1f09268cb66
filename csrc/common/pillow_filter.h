// The weights of Pillow's antialiased bilinear filter, written once for every processor.
//
// A triangle around each output's centre, as wide as an output pixel when shrinking (so that every
// input counts), an input pixel when enlarging. Weights are fixed point with `precision` fractional
// bits; sums of bytes times weights are exact, so only the weights themselves round.
#pragma once

#include <cstdint>

#include "common/host_device.h"

namespace fastseg {

struct TriangleAxis {
    static constexpr int precision = 22;
    static constexpr int32_t rounding = 1
                                        << (precision - 1);  // 0.5, where a sum of products starts

    int64_t inputs, outputs;

    FASTSEG_HOST_DEVICE double scale() const {
        return static_cast<double>(inputs) / static_cast<double>(outputs);
    }
    FASTSEG_HOST_DEVICE double support() const { return scale() > 1.0 ? scale() : 1.0; }

    // Room that the weights of one output take at most.
    FASTSEG_HOST_DEVICE int64_t widest() const {
        const double reach = support();
        int64_t whole = static_cast<int64_t>(reach);
        if (static_cast<double>(whole) < reach) ++whole;
        return whole * 2 + 1;
    }
};

struct TriangleSpan {
    int64_t first, count;  // inputs of an output
};

// Weights of one output; `weights` has room for `axis.widest()`.
FASTSEG_HOST_DEVICE inline TriangleSpan triangle_weights(TriangleAxis axis, int64_t output,
                                                         int32_t* weights) {
    const double support = axis.support(), narrowing = 1.0 / support;
    const double centre = (static_cast<double>(output) + 0.5) * axis.scale();
    // Truncation after adding 0.5; positions outside the input are left out.
    int64_t begin = static_cast<int64_t>(centre - support + 0.5);
    if (begin < 0) begin = 0;
    int64_t end = static_cast<int64_t>(centre + support + 0.5);
    if (end > axis.inputs) end = axis.inputs;
    const auto exact = [&](int64_t i) {
        const double distance = (static_cast<double>(i + begin) - centre + 0.5) * narrowing;
        const double weight = 1.0 - (distance < 0.0 ? -distance : distance);
        return weight > 0.0 ? weight : 0.0;
    };
    double sum = 0.0;
    for (int64_t i = 0; i < end - begin; ++i) sum += exact(i);
    for (int64_t i = 0; i < end - begin; ++i) {
        const double share = exact(i) / sum;
        weights[i] = static_cast<int32_t>(share * (1 << TriangleAxis::precision) + 0.5);
    }
    return {begin, end - begin};
}

FASTSEG_HOST_DEVICE inline uint8_t triangle_byte(int32_t sum) {
    const int32_t value = sum >> TriangleAxis::precision;
    return static_cast<uint8_t>(value < 0 ? 0 : value > 255 ? 255 : value);
}

// Both passes round to 8 bits, so their order shows in the last bit: horizontally first, unless the
// height loses more than twice as many pixels as the width (Pillow from version 13 on).
inline bool vertical_pass_first(int64_t height_lost, int64_t width_lost) {
    return height_lost > 0 && height_lost > 2 * width_lost;
}

}  // namespace fastseg
