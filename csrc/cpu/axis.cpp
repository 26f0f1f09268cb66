#include "cpu/axis.h"

namespace fastseg::cpu {

Axis::Axis(Enlargement enlargement) {
    const int64_t outputs = enlargement.size;
    for (std::vector<float>& list : weights)
        list.assign(static_cast<size_t>(outputs + lanes), 0.0f);
    for (int64_t output = 0; output < outputs; ++output) {
        const Stencil here = stencil(output, enlargement);
        if (cells.empty() || cells.back().first != here.first) {
            cells.push_back({here.first, output, output});
        }
        cells.back().end = output + 1;
        for (int tap = 0; tap < taps; ++tap) {
            weights[tap][static_cast<size_t>(output)] = here.weight[tap];
        }
    }
}

}  // namespace fastseg::cpu
