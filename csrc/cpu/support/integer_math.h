// Division of whole numbers that rounds in a direction of its own.
#pragma once

#include <cstdint>

namespace fastseg::cpu {

// a / b, rounded up; b is positive.
inline int64_t divide_up(int64_t a, int64_t b) {
    return a > 0 ? (a + b - 1) / b : -(-a / b);
}

}  // namespace fastseg::cpu
