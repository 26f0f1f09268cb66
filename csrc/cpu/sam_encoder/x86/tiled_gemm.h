// A product of all tokens with one matrix, cut into parts that fit a core's cache.
#pragma once

#include <functional>

#include "cpu/sam_encoder/model.h"
#include "cpu/sam_encoder/x86/elementwise.h"

namespace fastseg::cpu::sam_encoder {

// Floats between rows of sums: rows a power of two apart would share a few sets of the cache.
inline constexpr int64_t line = 16;

struct TiledGemm {
    const Linear& linear;
    const Bf16* input;  // [rows, linear.in] in format a
    int64_t rows;       // a multiple of 16
    int threads;
};

struct Part {
    Sums sums;
    int64_t row, column;  // of the whole product
};

// Call `take` with every part, each once, from several threads.
void run_tiled(const Model& model, const TiledGemm& gemm,
               const std::function<void(const Part&)>& take);

}  // namespace fastseg::cpu::sam_encoder
