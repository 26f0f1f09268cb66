// IEEE binary16 in integer arithmetic, so that host and device agree without either's intrinsics.
#pragma once

#include <cstdint>
#include <cstring>

#include "common/host_device.h"

namespace fastseg::device {

struct Fp16 {
    uint16_t bits;
};

FASTSEG_HOST_DEVICE inline uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

FASTSEG_HOST_DEVICE inline float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

FASTSEG_HOST_DEVICE inline float to_float(float value) {
    return value;
}

// Exact.
FASTSEG_HOST_DEVICE inline float to_float(Fp16 value) {
    const uint32_t sign = (value.bits & 0x8000u) << 16, exponent = value.bits >> 10 & 31;
    const uint32_t fraction = value.bits & 0x3ffu;
    if (exponent == 31) return float_of(sign | 0x7f800000u | fraction << 13);
    if (exponent > 0) return float_of(sign | (exponent + 112) << 23 | fraction << 13);
    const float tiny = static_cast<float>(fraction) * 0x1p-24f;  // a subnormal, or zero
    return float_of(sign | bits_of(tiny));
}

// To the nearest, ties to even.
FASTSEG_HOST_DEVICE inline Fp16 to_fp16(float value) {
    const uint32_t bits = bits_of(value), sign = bits >> 16 & 0x8000u, size = bits & 0x7fffffffu;
    const auto signed_fp16 = [&](uint32_t rest) {
        return Fp16{static_cast<uint16_t>(sign | rest)};
    };
    if (size > 0x7f800000u) return signed_fp16(0x7e00u);   // not a number
    if (size >= 0x477ff000u) return signed_fp16(0x7c00u);  // 65520 and more: infinite
    if (size < 0x38800000u) {
        // Below 2^-14 fp16 counts in steps of 2^-24: adding and subtracting 0.5 rounds to that.
        const float rounded = float_of(size) + 0.5f;
        return signed_fp16(bits_of(rounded) - bits_of(0.5f));
    }
    const uint32_t odd = size >> 13 & 1;
    return signed_fp16((size - 0x38000000u + 0xfffu + odd) >> 13);
}

FASTSEG_HOST_DEVICE inline void store(float value, float* out) {
    *out = value;
}
FASTSEG_HOST_DEVICE inline void store(float value, Fp16* out) {
    *out = to_fp16(value);
}

}  // namespace fastseg::device
