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

// Add a block of up to 32 x 32 sums of products to tile registers 0 to 3; a in 4 and 5, b in 6
// and 7.
template <bool two_rows, bool two_columns>
FASTSEG_INLINE void multiply(const Product& p, int64_t m, int64_t n) {
    const int64_t a_next = p.a_stride / 32 * 1024, b_next = p.b_stride / 32 * 1024;
    const auto* a = static_cast<const std::byte*>(p.a) + m / 16 * a_next;
    const auto* b = static_cast<const std::byte*>(p.b) + n / 16 * b_next;
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
}

// The same block of c = a b, or of a b + a b of the `second` where there is one.
template <bool two_rows, bool two_columns>
FASTSEG_INLINE void tiles(const Product& p, const Product* second, int64_t m, int64_t n, float* c) {
    const size_t c_bytes = static_cast<size_t>(p.c_stride) * 4;
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
    multiply<two_rows, two_columns>(p, m, n);
    if (second) multiply<two_rows, two_columns>(*second, m, n);
    _tile_stored(0, c, c_bytes);
    if constexpr (two_columns) _tile_stored(1, c + 16, c_bytes);
    if constexpr (two_rows) _tile_stored(2, below, c_bytes);
    if constexpr (two_rows && two_columns) _tile_stored(3, below + 16, c_bytes);
}

FASTSEG_INLINE void all_tiles(const Product& p, const Product* second) {
    for (int64_t n = 0; n < p.n; n += 32) {
        const bool two_columns = p.n - n > 16;
        for (int64_t m = 0; m < p.m; m += 32) {
            const bool two_rows = p.m - m > 16;
            float* c = p.c + m * p.c_stride + n;
            if (two_rows && two_columns)
                tiles<true, true>(p, second, m, n, c);
            else if (two_rows)
                tiles<true, false>(p, second, m, n, c);
            else if (two_columns)
                tiles<false, true>(p, second, m, n, c);
            else
                tiles<false, false>(p, second, m, n, c);
        }
    }
}

void product(const Product& p) {
    all_tiles(p, nullptr);
}

void products(const Product& first, const Product& second) {
    all_tiles(first, &second);
}

// Blocks of 32 channels go from the tiles through 4 KB of scratch to the sums with the residual,
// one block behind the products: sums are written once and tiles are busy meanwhile.
void receive(const Product& p, const Settling& s) {
    constexpr int64_t rows = 32, block = rows * tile_size;
    alignas(64) float scratch[2][block];
    Product part = p;
    part.c_stride = tile_size;
    part.add = false;
    const auto make = [&](int64_t c) {
        tiles<true, true>(part, nullptr, c, 0, scratch[c / rows % 2]);
    };
    const auto* residual = static_cast<const Half*>(s.residual);
    auto* sums = static_cast<Half*>(s.sums);
    Moments moments[2];
    make(0);
    for (int64_t c = 0; c < width; c += rows, residual += block, sums += block) {
        if (c + rows < width) make(c + rows);
        add_rows(scratch[c / rows % 2], rows, residual, sums, moments);
    }
    settle(s, moments);
}

}  // namespace

extern const Table amx_table = half_table("amx-bf16", begin, end, product, products, receive);

}  // namespace fastseg::cpu::decoder
