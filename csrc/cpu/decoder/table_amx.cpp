// Bfloat16 with AMX: products in tile registers of 16 rows of 64 bytes.
#define FASTSEG_HALF
#define FASTSEG_LANES 16
#define FASTSEG_ROWS 12
#include <cstddef>

#include "cpu/decoder/half_table.h"

namespace fastseg::cpu::decoder {
namespace {

struct alignas(64) TileConfiguration {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t bytes_a_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// In memory of its own: GCC 12 does not see that the instruction reads more than a pointer.
constexpr TileConfiguration configuration;

void begin() {
    _tile_loadconfig(&configuration);
}

void end() {
    _tile_release();
}

// One block of up to 32 x 32 sums in tile registers 0 to 3; a in 4 and 5, b in 6 and 7.
template <bool two_rows, bool two_columns>
FASTSEG_INLINE void tiles(const Product& p, const std::byte* a, const std::byte* b, float* c) {
    const size_t c_bytes = static_cast<size_t>(p.c_stride) * 4;
    const int64_t a_next = p.a_stride / 32 * 1024, b_next = p.b_stride / 32 * 1024;
    float* below = c + 16 * p.c_stride;
    if (p.add) {
        _tile_loadd(0, c, c_bytes);
        if constexpr (two_columns) _tile_loadd(1, c + 16, c_bytes);
        if constexpr (two_rows) _tile_loadd(2, below, c_bytes);
        if constexpr (two_rows && two_columns) _tile_loadd(3, below + 16, c_bytes);
    } else {
        _tile_zero(0);
        if constexpr (two_columns) _tile_zero(1);
        if constexpr (two_rows) _tile_zero(2);
        if constexpr (two_rows && two_columns) _tile_zero(3);
    }
    for (const std::byte* end = a + p.k / 32 * 1024; a < end; a += 1024, b += 1024) {
        _tile_loadd(4, a, 64);
        _tile_loadd(6, b, 64);
        _tile_dpbf16ps(0, 4, 6);
        if constexpr (two_columns) {
            _tile_loadd(7, b + b_next, 64);
            _tile_dpbf16ps(1, 4, 7);
        }
        if constexpr (two_rows) {
            _tile_loadd(5, a + a_next, 64);
            _tile_dpbf16ps(2, 5, 6);
            if constexpr (two_columns) _tile_dpbf16ps(3, 5, 7);
        }
    }
    _tile_stored(0, c, c_bytes);
    if constexpr (two_columns) _tile_stored(1, c + 16, c_bytes);
    if constexpr (two_rows) _tile_stored(2, below, c_bytes);
    if constexpr (two_rows && two_columns) _tile_stored(3, below + 16, c_bytes);
}

void product(const Product& p) {
    const int64_t a_block = p.a_stride / 32 * 1024, b_block = p.b_stride / 32 * 1024;
    for (int64_t n = 0; n < p.n; n += 32) {
        const bool two_columns = p.n - n > 16;
        const auto* b = static_cast<const std::byte*>(p.b) + n / 16 * b_block;
        for (int64_t m = 0; m < p.m; m += 32) {
            const bool two_rows = p.m - m > 16;
            const auto* a = static_cast<const std::byte*>(p.a) + m / 16 * a_block;
            float* c = p.c + m * p.c_stride + n;
            if (two_rows && two_columns)
                tiles<true, true>(p, a, b, c);
            else if (two_rows)
                tiles<true, false>(p, a, b, c);
            else if (two_columns)
                tiles<false, true>(p, a, b, c);
            else
                tiles<false, false>(p, a, b, c);
        }
    }
}

// Blocks of 32 channels go from the tiles through 4 KB of scratch to the sums with the residual,
// one block behind the products: sums are written once and tiles are busy meanwhile.
void receive(const Product& p, const Settling& s) {
    constexpr int64_t rows = 32;
    alignas(64) float scratch[2][rows * tile_size];
    Product part = p;
    part.c_stride = tile_size;
    part.add = false;
    const auto multiply = [&](int64_t c) {
        const auto* a = static_cast<const std::byte*>(p.a) + c / 16 * (p.a_stride / 32 * 1024);
        tiles<true, true>(part, a, static_cast<const std::byte*>(p.b), scratch[c / rows % 2]);
    };
    Moments moments[2];
    multiply(0);
    for (int64_t c = 0; c < width; c += rows) {
        if (c + rows < width) multiply(c + rows);
        const float* made = scratch[c / rows % 2];
        for (int64_t row = 0; row < rows; ++row)
            for (int v = 0; v < 2; ++v) {
                const int64_t at = (c + row) * tile_size + v * 16;
                const Floats value = load(made + row * tile_size + v * 16) + load(s.residual + at);
                store(s.sums + at, value);
                moments[v].take(value);
            }
    }
    settle_measured(
        s, {moments[0].found(width, layer_epsilon), moments[1].found(width, layer_epsilon)});
}

}  // namespace

extern const Table amx_table = half_table("amx-bf16", begin, end, product, receive);

}  // namespace fastseg::cpu::decoder
