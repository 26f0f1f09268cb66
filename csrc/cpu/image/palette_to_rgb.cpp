// The colours of a palette for indices of 8 bits.
#include <algorithm>
#include <array>
#include <cstring>

#include "cpu/support/parallel.h"
#include "kernels.h"

namespace fastseg::cpu {
namespace {

constexpr int64_t pixels_per_block = 1 << 14;
constexpr double nanoseconds_per_pixel = 0.8;

// A colour and a byte beyond it, which the next pixel's colour overwrites.
using Entry = std::array<uint8_t, 4>;

void look_up(const uint8_t* indices, int64_t pixels, const std::array<Entry, 256>& entries,
             uint8_t* rgb) {
    for (int64_t i = 0; i + 1 < pixels; ++i) {
        std::memcpy(rgb + 3 * i, entries[indices[i]].data(), 4);
    }
    // The byte beyond the last one belongs to another thread, or to nobody.
    if (pixels > 0) std::memcpy(rgb + 3 * (pixels - 1), entries[indices[pixels - 1]].data(), 3);
}

}  // namespace

void palette_to_rgb(const uint8_t* indices, int64_t pixels, const uint8_t* colours, uint8_t* out,
                    int threads) {
    std::array<Entry, 256> entries{};
    for (size_t index = 0; index < entries.size(); ++index) {
        std::copy_n(colours + 3 * index, 3, entries[index].data());
    }
    const int64_t blocks = (pixels + pixels_per_block - 1) / pixels_per_block;
    const int team =
        team_size(threads, blocks, nanoseconds_per_pixel * static_cast<double>(pixels));
    parallel_for(team, blocks, [&] {
        return [&, indices, out](int64_t block) {
            const int64_t first = block * pixels_per_block;
            look_up(indices + first, std::min(pixels_per_block, pixels - first), entries,
                    out + 3 * first);
        };
    });
}

}  // namespace fastseg::cpu
