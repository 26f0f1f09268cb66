#include "cpu/sam_encoder/x86/tiled_gemm.h"

#include <algorithm>
#include <memory>
#include <numeric>

#include "cpu/nn/tile_config_guard.h"
#include "cpu/support/parallel.h"

namespace fastseg::cpu::sam_encoder {
namespace {

// Of the rows of a part. They stay in the second-level cache while the matrix is streamed from
// memory. More rows mean fewer streams, which would otherwise take longer than the products.
constexpr int64_t input_bytes = 800'000;
constexpr int64_t fewest_rows = 64, most_rows = 512;

int64_t rows_at_once(const TiledGemm& gemm) {
    int64_t rows = most_rows;
    while (rows > fewest_rows && rows * gemm.linear.in * 2 > input_bytes) rows /= 2;
    return rows;
}

}  // namespace

void run_tiled(const Model& model, const TiledGemm& gemm,
               const std::function<void(const Part&)>& take) {
    const nn::KernelTable& table = model.table;
    const Linear& linear = gemm.linear;
    const int64_t part_height = rows_at_once(gemm), part_width = std::gcd(model.chunk, linear.out);
    const int64_t down = (gemm.rows + part_height - 1) / part_height,
                  across = linear.out / part_width;
    parallel_for(gemm.threads, down * across, [&]() -> std::function<void(int64_t)> {
        const auto tile_config = std::make_shared<nn::TileConfigGuard>(table);
        auto sums = std::make_shared<Buffer>(nn::float_buffer(part_height * (part_width + line)));
        return [&, tile_config, sums](int64_t index) {
            const int64_t row = index / across * part_height, column = index % across * part_width;
            const int64_t rows = std::min(part_height, gemm.rows - row);
            const auto* a = reinterpret_cast<const std::byte*>(gemm.input);
            table.gemm(
                {a + nn::a_offset(table, linear.in, row, 0), linear.in,
                 linear.kernel.bytes() + nn::b_offset(table, linear.in, linear.out, 0, column),
                 linear.in, sums->floats(), part_width + line, rows, part_width, linear.in, false});
            const float* bias = linear.bias.empty() ? nullptr : linear.bias.data() + column;
            take({{sums->floats(), part_width + line, rows, part_width, bias}, row, column});
        };
    });
}

}  // namespace fastseg::cpu::sam_encoder
