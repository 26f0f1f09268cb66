#include "cpu/sam_decoder/attention_accumulator.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

namespace fastseg::cpu::sam_decoder {

AttentionAccumulator::AttentionAccumulator(const Model& model, int64_t tokens, Form form,
                                           int64_t columns)
    : form_(form), columns_(columns) {
    const int64_t rows = model.padded(heads * tokens);
    // Of projected values the columns of a head alone are ever read, and these are written first.
    weighted_values = form == Form::folded ? float_buffer(rows * width)
                                           : Buffer::unwritten(rows * inner * sizeof(float));
    weighted_rows = Buffer::unwritten(rows * columns * sizeof(float));
    running_max = float_buffer(rows);
    running_sums = float_buffer(rows * sum_lanes);
    rescale_factors = float_buffer(rows);
}

void AttentionAccumulator::reset(const Model& model, int64_t tokens) {
    const int64_t rows = model.padded(heads * tokens);
    empty = true;
    std::fill_n(running_max.floats(), rows, -std::numeric_limits<float>::infinity());
    std::fill_n(running_sums.floats(), rows * sum_lanes, 0.0f);
    std::fill_n(rescale_factors.floats(), rows, 1.0f);
}

void AttentionAccumulator::rescale(const Model& model, int64_t tokens) {
    if (empty) return;
    const int64_t rows = heads * tokens, padded = model.padded(rows);
    const float* by = rescale_factors.floats();
    float* x = weighted_values.floats();
    if (form_ == Form::folded) {
        for (int64_t c = 0; c < width; ++c, x += padded)
            for (int64_t row = 0; row < rows; ++row) x[row] *= by[row];
        return;
    }
    for (int64_t row = 0; row < rows; ++row, x += inner) {
        const int64_t first = row / tokens * channels;
        for (int64_t c = first; c < first + channels; ++c) x[c] *= by[row];
    }
    float* y = weighted_rows.floats();
    for (int64_t c = 0; c < columns_; ++c, y += rows)
        for (int64_t row = 0; row < rows; ++row) y[row] *= by[row];
}

void AttentionAccumulator::merge(const Model& model, AttentionAccumulator& part, int64_t tokens) {
    if (empty) {
        std::swap(*this, part);
        return;
    }
    const int64_t rows = heads * tokens;
    float *x_scale = rescale_factors.floats(), *y_scale = part.rescale_factors.floats();
    for (int64_t row = 0; row < rows; ++row) {
        const float before = running_max.floats()[row], other = part.running_max.floats()[row];
        const float after = std::max(before, other);
        x_scale[row] = std::exp(before - after);
        y_scale[row] = std::exp(other - after);
        running_max.floats()[row] = after;
        float *x = running_sums.floats() + row * sum_lanes,
              *y = part.running_sums.floats() + row * sum_lanes;
        for (int64_t lane = 0; lane < sum_lanes; ++lane)
            x[lane] = x[lane] * x_scale[row] + y[lane] * y_scale[row];
    }
    if (form_ == Form::folded) {
        model.table.merge(weighted_values.floats(), part.weighted_values.floats(), x_scale, y_scale,
                          model.padded(rows));
        return;
    }
    for (int64_t row = 0; row < rows; ++row) {
        const int64_t at = row * inner + row / tokens * channels;
        float *x = weighted_values.floats() + at, *y = part.weighted_values.floats() + at;
        for (int64_t c = 0; c < channels; ++c) x[c] = x[c] * x_scale[row] + y[c] * y_scale[row];
    }
    float *x = weighted_rows.floats(), *y = part.weighted_rows.floats();
    for (int64_t c = 0; c < columns_; ++c, x += rows, y += rows)
        for (int64_t row = 0; row < rows; ++row)
            x[row] = x[row] * x_scale[row] + y[row] * y_scale[row];
}

void AttentionAccumulator::divide(const Model& model, int64_t tokens) {
    for (int64_t row = 0; row < heads * tokens; ++row) {
        const float* parts = running_sums.floats() + row * sum_lanes;
        rescale_factors.floats()[row] = 1.0f / std::accumulate(parts, parts + sum_lanes, 0.0f);
    }
    rescale(model, tokens);
}

void AttentionAccumulator::read_values(int64_t tokens, float* to) const {
    for (int64_t head = 0; head < heads; ++head)
        for (int64_t token = 0; token < tokens; ++token)
            std::copy_n(
                weighted_values.floats() + (head * tokens + token) * inner + head * channels,
                channels, to + token * inner + head * channels);
}

void AttentionAccumulator::finish(const Model& model, const TokenToImageAttention& attention,
                                  int64_t tokens, float* attended, float* floats) {
    const int64_t rows = heads * tokens, padded = model.padded(rows);
    divide(model, tokens);
    if (form_ == Form::projected) {
        read_values(tokens, attended);
    } else {
        model.table.transpose(weighted_values.floats(), width, rows, padded, floats, width);
        for (int64_t head = 0; head < heads; ++head)
            model.table.gemm_f32({floats + head * tokens * width, width,
                                  attention.values.floats() + head * width * channels, channels,
                                  attended + head * channels, inner, tokens, channels, width,
                                  false});
    }
    for (int64_t token = 0; token < tokens; ++token)
        for (int64_t c = 0; c < inner; ++c)
            attended[token * inner + c] += attention.value_bias[static_cast<size_t>(c)];
}

}  // namespace fastseg::cpu::sam_decoder
