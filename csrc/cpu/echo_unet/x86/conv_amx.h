// Convolutions as products in AMX's tile registers: 16 pixels of a row by 32 channels, times 32
// channels by 16 of the next layer. A tile is loaded from where its pixels lie, for each of the
// nine neighbours anew, so empty is laid out before.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/nn/float16.h"

namespace fastseg::cpu::echo_unet {

using nn::Bf16;

// An input map.
struct Source {
    const std::byte* origin;  // pixel (0, 0)
    int64_t row, pixel;       // bytes from one to the next
    const int32_t* offsets;   // [steps] bytes from a pixel to the 32 values of each step
    int64_t steps;
};

// Pixels of rows y0 to y1, columns n0 to n1 of the matrix (multiples of 16).
struct Part {
    int64_t y0, y1, n0, n1;
};

struct Convolution {
    Source sources[2];
    int64_t count;            // of sources
    const std::byte* kernel;  // [32 * steps of all sources, columns] in format b
    int64_t column_bytes;     // of 16 columns of the kernel
    const float* bias;        // [columns]
    int64_t width;            // pixels of a row
    bool relu;                // negative sums become 0
};

// The output map: column n of a pixel lies at n / group * spread + n % group.
struct Target {
    Bf16* origin;           // pixel (0, 0)
    int64_t row, pixel;     // values from one to the next
    int64_t group, spread;  // `group` is a multiple of 16, and of 32 if it is not `spread`
};

// Tiles must be configured (nn::TileConfigGuard).
void convolve(const Convolution& convolution, const Target& target, const Part& part);

// Columns to `classes` planes of probabilities [.., width], rows y0 to y1.
void convolve_to_planes(const Convolution& convolution, int64_t classes, float* planes,
                        int64_t plane, const Part& part);

// frame [channels, side, side] to a map of four channels, rows y0 to y1.
void frame_to_map(const float* frame, int64_t channels, int64_t side, Bf16* origin, int64_t row,
                  int64_t y0, int64_t y1);

// The greatest of 2 x 2 values that are not negative, for `pixels` pixels of a row: `above` is the
// upper row, `stride` values lie between its pixels and `row` between the two rows.
void pool_row(const Bf16* above, int64_t row, int64_t stride, int64_t channels, int64_t pixels,
              Bf16* to);

}  // namespace fastseg::cpu::echo_unet
