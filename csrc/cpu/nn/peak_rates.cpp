#include "cpu/nn/peak_rates.h"

#include <algorithm>
#include <chrono>
#include <mutex>

#include "cpu/nn/buffer.h"
#include "cpu/support/parallel.h"

namespace fastseg::cpu::nn {
namespace {

constexpr int rounds = 8;
constexpr int64_t chain_steps = 1'000'000;
constexpr int64_t product_rows = 144, product_blocks = 3, product_columns = 1536;

// Nanoseconds that `work` takes at its best.
template <class Work>
double best_time(const Work& work) {
    double best = 1e18;
    for (int round = 0; round < rounds; ++round) {
        const auto start = std::chrono::steady_clock::now();
        work();
        const std::chrono::duration<double, std::nano> took =
            std::chrono::steady_clock::now() - start;
        best = std::min(best, took.count());
    }
    return best;
}

double multiply_add_rate(const DenseKernels& kernels) {
    float sum = 0;
    const double took =
        best_time([&] { sum += kernels.multiply_add_chains(chain_steps, 0 * sum); });
    return 2.0 * static_cast<double>(chain_steps * kernels.rows * kernels.columns) / took;
}

double product_rate(const DenseKernels& kernels) {
    const int64_t rows = product_rows / kernels.rows * kernels.rows;
    const Buffer a = float_buffer(product_blocks * rows * k_block);
    const Buffer b = float_buffer(product_blocks * k_block * product_columns);
    const Buffer c = float_buffer(rows * product_columns);
    const double took = best_time([&] {
        for (int64_t block = 0; block < product_blocks; ++block)
            for (int64_t n = 0; n < product_columns; n += kernels.columns) {
                const float* panel = b.floats() + (block * product_columns + n) * k_block;
                kernels.panel_gemm({a.floats() + block * rows * k_block, k_block, rows, k_block,
                                    panel, c.floats() + n * rows, kernels.columns, block > 0,
                                    panel + kernels.columns * k_block});
            }
    });
    return 2.0 * static_cast<double>(rows * product_blocks * k_block * product_columns) / took;
}

// The sum over threads that measure at the same time.
double together(int threads, double (*rate)(const DenseKernels&), const DenseKernels& kernels) {
    double sum = 0;
    std::mutex adding;
    run_team(threads, [&] {
        const double found = rate(kernels);
        const std::lock_guard lock(adding);
        sum += found;
    });
    return sum;
}

}  // namespace

PeakRates measure_peak_rates(const KernelTable& table, int threads) {
    const int team = team_size(threads, 1024, 1e9);
    return {together(team, multiply_add_rate, *table.dense),
            together(team, product_rate, *table.dense)};
}

}  // namespace fastseg::cpu::nn
