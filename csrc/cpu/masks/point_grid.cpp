#include "common/point_grid.h"

#include <stdexcept>

#include "kernels.h"

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

}  // namespace fastseg::cpu
