#include "cpu/sam_decoder/attention_accumulator.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

namespace fastseg::cpu::sam_decoder {

Sight::Sight(const Model& model, int64_t tokens, bool raw) : raw_(raw) {
    const int64_t rows = model.padded(heads * tokens);
    means = float_buffer(rows * (raw ? width : inner));
    reference = float_buffer(rows);
    sums = float_buffer(rows * sum_lanes);
    factors = float_buffer(rows);
}

void Sight::clear(const Model& model, int64_t tokens) {
    const int64_t rows = model.padded(heads * tokens);
    empty = true;
    std::fill_n(reference.floats(), rows, -std::numeric_limits<float>::infinity());
    std::fill_n(sums.floats(), rows * sum_lanes, 0.0f);
    std::fill_n(factors.floats(), rows, 1.0f);
}

void Sight::rescale(const Model& model, int64_t tokens) {
    if (empty) return;
    const int64_t rows = heads * tokens, padded = model.padded(rows);
    const float* by = factors.floats();
    float* x = means.floats();
    if (raw_)
        for (int64_t c = 0; c < width; ++c, x += padded)
            for (int64_t row = 0; row < rows; ++row) x[row] *= by[row];
    else
        for (int64_t row = 0; row < rows; ++row, x += inner)
            for (int64_t c = 0; c < inner; ++c) x[c] *= by[row];
}

void Sight::join(const Model& model, Sight& part, int64_t tokens) {
    if (empty) {
        std::swap(*this, part);
        return;
    }
    const int64_t rows = heads * tokens;
    float *mine = factors.floats(), *theirs = part.factors.floats();
    for (int64_t row = 0; row < rows; ++row) {
        const float before = reference.floats()[row], other = part.reference.floats()[row];
        const float after = std::max(before, other);
        mine[row] = std::exp(before - after);
        theirs[row] = std::exp(other - after);
        reference.floats()[row] = after;
        float *x = sums.floats() + row * sum_lanes, *y = part.sums.floats() + row * sum_lanes;
        for (int64_t lane = 0; lane < sum_lanes; ++lane)
            x[lane] = x[lane] * mine[row] + y[lane] * theirs[row];
    }
    if (raw_) {
        model.table.merge(means.floats(), part.means.floats(), mine, theirs, model.padded(rows));
        return;
    }
    for (int64_t row = 0; row < rows; ++row) {
        const int64_t at = row * inner + row / tokens * channels;
        float *x = means.floats() + at, *y = part.means.floats() + at;
        for (int64_t c = 0; c < channels; ++c) x[c] = x[c] * mine[row] + y[c] * theirs[row];
    }
}

void Sight::finish(const Model& model, const Look& look, int64_t tokens, float* seen,
                   float* floats) {
    const int64_t rows = heads * tokens, padded = model.padded(rows);
    for (int64_t row = 0; row < rows; ++row) {
        const float* parts = sums.floats() + row * sum_lanes;
        factors.floats()[row] = 1.0f / std::accumulate(parts, parts + sum_lanes, 0.0f);
    }
    rescale(model, tokens);
    if (raw_) model.table.transpose(means.floats(), width, rows, padded, floats, width);
    for (int64_t head = 0; head < heads; ++head) {
        if (raw_) {
            model.table.gemm_f32({floats + head * tokens * width, width,
                                  look.values.floats() + head * width * channels, channels,
                                  seen + head * channels, inner, tokens, channels, width, false});
            continue;
        }
        for (int64_t token = 0; token < tokens; ++token)
            std::copy_n(means.floats() + (head * tokens + token) * inner + head * channels,
                        channels, seen + token * inner + head * channels);
    }
    for (int64_t token = 0; token < tokens; ++token)
        for (int64_t c = 0; c < inner; ++c)
            seen[token * inner + c] += look.value_bias[static_cast<size_t>(c)];
}

}  // namespace fastseg::cpu::sam_decoder
