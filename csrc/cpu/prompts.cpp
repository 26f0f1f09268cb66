#include <algorithm>
#include <stdexcept>

#include "click_grid.h"
#include "cpu/operations.h"

namespace fastseg::cpu {

void point_grid(int64_t per_side, double* out) {
    if (per_side < 1) throw std::invalid_argument("points per side must be at least 1");
    for (int64_t y = 0; y < per_side; ++y) {
        for (int64_t x = 0; x < per_side; ++x) {
            *out++ = grid_centre(x, per_side);
            *out++ = grid_centre(y, per_side);
        }
    }
}

void pad_prompts(Prompts prompts, PaddedPrompts out) {
    constexpr int32_t padding_label = -1;
    for (int64_t i = 0; i < prompts.count; ++i) {
        const int64_t begin = prompts.offsets[i];
        const int64_t length = prompts.offsets[i + 1] - begin;
        if (length < 0 || length > out.longest) {
            throw std::invalid_argument("prompt offsets must ascend by at most the longest prompt");
        }
        float* points = out.points + i * out.longest * 2;
        int32_t* labels = out.labels + i * out.longest;
        std::copy_n(prompts.points + begin * 2, length * 2, points);
        std::copy_n(prompts.labels + begin, length, labels);
        std::fill(points + length * 2, points + out.longest * 2, 0.0f);
        std::fill(labels + length, labels + out.longest, padding_label);
    }
}

}  // namespace fastseg::cpu
