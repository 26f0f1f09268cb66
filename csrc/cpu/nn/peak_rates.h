// Arithmetic per second that a float32 kernel table reaches on this machine, measured.
#pragma once

#include "cpu/nn/kernels.h"

namespace fastseg::cpu::nn {

// GFLOP/s of all threads together, at their best of several short rounds.
struct PeakRates {
    double multiply_add;  // of operands in registers: the upper bound of every kernel
    double product;       // of 144 rows and a matrix [768, 1536], as large networks multiply
};

// `table` must have float32 operands.
PeakRates measure_peak_rates(const KernelTable& table, int threads);

}  // namespace fastseg::cpu::nn
