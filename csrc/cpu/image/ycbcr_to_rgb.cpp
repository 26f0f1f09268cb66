// Luma and chroma of full range to RGB (DICOM PS3.3, C.7.6.3.1.2, solved for RGB), rounded half up.
//
// Luma is whole, so the rounded sum is luma plus the rounded contribution of chroma. The factors
// have 22 bits, and `half` exceeds a half by what their own rounding can take from it. So every
// pair of chroma gives the integer that exact fractions give; tests/ops/test_ycbcr_to_rgb.py
// compares all of them. No product leaves 32 bits.
#include <algorithm>
#include <array>

#include "cpu/support/multiversion.h"
#include "cpu/support/parallel.h"
#include "kernels.h"

namespace fastseg::cpu {
namespace {

constexpr int bits = 22;
constexpr int32_t half = (1 << (bits - 1)) + 39;
constexpr int32_t red_by_cr = 5880414, blue_by_cb = 7432307;       // 1.402, 1.772
constexpr int32_t green_by_cb = -1443412, green_by_cr = -2995305;  // of 0.114, 0.299 and 0.587

constexpr int64_t pixels_per_block = 1 << 14;
// Copied before they are converted: `out` may be the pixels themselves, and vectors of one array
// are not written while others of it are still to be read.
constexpr int64_t pixels_per_chunk = 1 << 10;
constexpr double nanoseconds_per_pixel = 1.0;

uint8_t level(int32_t value) {
    return static_cast<uint8_t>(std::clamp(value, 0, 255));
}

FASTSEG_MULTIVERSION
void convert(const uint8_t* ycbcr, int64_t pixels, uint8_t* rgb) {
    for (int64_t i = 0; i < pixels; ++i) {
        const int32_t y = ycbcr[3 * i];
        const int32_t cb = ycbcr[3 * i + 1] - 128, cr = ycbcr[3 * i + 2] - 128;
        rgb[3 * i] = level(y + ((red_by_cr * cr + half) >> bits));
        rgb[3 * i + 1] = level(y + ((green_by_cb * cb + green_by_cr * cr + half) >> bits));
        rgb[3 * i + 2] = level(y + ((blue_by_cb * cb + half) >> bits));
    }
}

}  // namespace

void ycbcr_to_rgb(const uint8_t* ycbcr, int64_t pixels, uint8_t* out, int threads) {
    const int64_t blocks = (pixels + pixels_per_block - 1) / pixels_per_block;
    const int team =
        team_size(threads, blocks, nanoseconds_per_pixel * static_cast<double>(pixels));
    parallel_for(team, blocks, [&] {
        return [=](int64_t block) {
            const int64_t end = std::min((block + 1) * pixels_per_block, pixels);
            for (int64_t first = block * pixels_per_block; first < end; first += pixels_per_chunk) {
                const int64_t count = std::min(pixels_per_chunk, end - first);
                std::array<uint8_t, 3 * pixels_per_chunk> chunk;
                std::copy_n(ycbcr + 3 * first, 3 * count, chunk.data());
                convert(chunk.data(), count, out + 3 * first);
            }
        };
    });
}

}  // namespace fastseg::cpu
