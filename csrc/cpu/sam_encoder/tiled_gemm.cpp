#include "cpu/sam_encoder/tiled_gemm.h"

#include <algorithm>
#include <memory>
#include <numeric>

#include "cpu/nn/tile_config_guard.h"
#include "cpu/support/parallel.h"

namespace fastseg::cpu::sam_encoder {
namespace {

// Of the rows of a part. They stay in the second-level cache while the matrix streams by, and the
// more there are, the less often it has to: that, not the products, is what takes time otherwise.
constexpr int64_t input_bytes = 800'000;
constexpr int64_t fewest_rows = 64, most_rows = 512;

int64_t rows_at_once(const Factors& factors) {
    int64_t rows = most_rows;
    while (rows > fewest_rows && rows * factors.linear.in * 2 > input_bytes) rows /= 2;
    return rows;
}

}  // namespace

void multiply(const Model& model, const Factors& factors,
              const std::function<void(const Part&)>& take) {
    const nn::KernelTable& table = model.table;
    const Linear& linear = factors.linear;
    const int64_t height = rows_at_once(factors), breadth = std::gcd(model.chunk, linear.out);
    const int64_t down = (factors.rows + height - 1) / height, across = linear.out / breadth;
    share(factors.threads, down * across, [&]() -> std::function<void(int64_t)> {
        const auto tile_config = std::make_shared<nn::TileConfigGuard>(table);
        auto sums = std::make_shared<Buffer>(nn::float_buffer(height * (breadth + line)));
        return [&, tile_config, sums](int64_t index) {
            const int64_t row = index / across * height, column = index % across * breadth;
            const int64_t rows = std::min(height, factors.rows - row);
            const auto* a = reinterpret_cast<const std::byte*>(factors.input);
            table.gemm(
                {a + nn::a_offset(table, linear.in, row, 0), linear.in,
                 linear.kernel.bytes() + nn::b_offset(table, linear.in, linear.out, 0, column),
                 linear.in, sums->floats(), breadth + line, rows, breadth, linear.in, false});
            const float* bias = linear.bias.empty() ? nullptr : linear.bias.data() + column;
            take({{sums->floats(), breadth + line, rows, breadth, bias}, row, column});
        };
    });
}

}  // namespace fastseg::cpu::sam_encoder
