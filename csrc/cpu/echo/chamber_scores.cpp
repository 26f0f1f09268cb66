// The confidence of a network in its chambers.
#include <algorithm>

#include "cpu/support/multiversion.h"
#include "cpu/support/parallel.h"
#include "kernels.h"

namespace fastseg::cpu {
namespace {

// Probabilities are added as whole multiples of this, so that no order of adding shows.
constexpr float unit = 0x1p24f;

// The logistic function at 1 and at -1: one logit above and below 0.5.
constexpr float surely = 0.7310585786300049f;
constexpr float barely = 0.2689414213699951f;

struct Sums {
    int64_t inside = 0, outside = 0;  // probabilities, in units
    int64_t area = 0;                 // pixels
    int64_t high = 0, low = 0;        // pixels above `surely` and above `barely`
};

// As many pixels as 32 bits can add up, so that the vectors are full.
constexpr int64_t block = 240;

FASTSEG_MULTIVERSION
void add_block(const float* values, const uint8_t* mask, int64_t count, Sums& sums) {
    uint32_t inside = 0, all = 0, area = 0, high = 0, low = 0;
    for (int64_t i = 0; i < count; ++i) {
        // In this order a NaN becomes 0.
        const float value = std::min(std::max(0.0f, values[i]), 1.0f);
        const uint32_t units = static_cast<uint32_t>(static_cast<int32_t>(value * unit));
        all += units;
        inside += mask[i] != 0 ? units : 0;
        area += mask[i] != 0 ? 1 : 0;
        high += value > surely ? 1 : 0;
        low += value > barely ? 1 : 0;
    }
    sums.inside += inside;
    sums.outside += all - inside;
    sums.area += area;
    sums.high += high;
    sums.low += low;
}

}  // namespace

void chamber_scores(Planes<const float> probabilities, const uint8_t* masks, ChamberScores out,
                    int threads) {
    const int64_t pixels = probabilities.height * probabilities.width;
    const double work = 0.3 * static_cast<double>(probabilities.count * pixels);
    parallel_for(team_size(threads, probabilities.count, work), probabilities.count, [&] {
        return [&](int64_t index) {
            Sums sums;
            const uint8_t* mask = masks + index * pixels;
            for (int64_t i = 0; i < pixels; i += block) {
                add_block(probabilities.plane(index) + i, mask + i, std::min(block, pixels - i),
                          sums);
            }
            const double expected = static_cast<double>(sums.area) * unit + sums.outside;
            const double score = sums.area > 0 ? static_cast<double>(sums.inside) / expected : 0.0;
            out.scores[index] = static_cast<float>(score);
            out.stability[index] = static_cast<float>(sums.high) / static_cast<float>(sums.low);
        };
    });
}

}  // namespace fastseg::cpu
