// The two formats of 16 bits, as types that do not convert into each other.
#pragma once

#include <cstdint>

namespace fastseg::cpu::nn {

// bfloat16: the upper half of a float32, 8 bits of exponent and 7 of fraction.
struct Bf16 {
    uint16_t bits;
};

// IEEE 754 binary16: 5 bits of exponent and 10 of fraction.
struct Fp16 {
    uint16_t bits;
};

}  // namespace fastseg::cpu::nn
