#include "cpu/sam_decoder/low_rank_prompt.h"

#include <algorithm>

namespace fastseg::cpu::sam_decoder {
namespace {

// Tokens [tokens, 128] less the last one, which stays as it is.
void subtract_origin(const float* from, int64_t tokens, float* to) {
    const float* origin = from + (tokens - 1) * inner;
    for (int64_t at = 0; at < (tokens - 1) * inner; ++at) to[at] = from[at] - origin[at % inner];
    std::copy_n(origin, inner, to + (tokens - 1) * inner);
}

// Add values to the last column of a matrix [count, columns].
void add_to_last_column(float* to, int64_t columns, const float* values, int64_t count) {
    for (int64_t row = 0; row < count; ++row) to[(row + 1) * columns - 1] += values[row];
}

}  // namespace

LowRankPrompt::LowRankPrompt(const Model& model, int64_t most) {
    const int64_t rows = rows_of(most);
    queries = float_buffer(std::max(most, model.outputs()) * inner);
    for (Buffer* buffer :
         {&keys[0], &keys[1], &values[0], &values[1], &transposed_[0], &transposed_[1]})
        *buffer = float_buffer(most * inner);
    for (Buffer* buffer : {&gram1, &second_keys, &gram11, &gram12, &gram22})
        *buffer = float_buffer(rows * rows);
    origin12 = float_buffer(rows);
    for (Buffer* buffer : {&folded[0], &folded[1]})
        *buffer = float_buffer(heads * std::max(most, model.outputs()) * rows);
    for (Buffer* buffer : {&final_keys_[0], &final_keys_[1], &second_values_})
        *buffer = float_buffer(inner * rows);
    for (Buffer* buffer : {&final_values_, &upscale[0], &upscale[1]})
        *buffer = float_buffer(2 * inner * rows);
}

int64_t LowRankPrompt::scratch_floats(const Model& model, int64_t most) {
    const int64_t rows = rows_of(most), queries = heads * std::max(most, model.outputs());
    return std::max(inner * rows, 2 * rows * queries);
}

void LowRankPrompt::set_keys_values(const Model& model, int layer, const float* new_keys,
                                    const float* new_values, int64_t tokens, float* floats) {
    tokens_ = tokens;
    subtract_origin(new_keys, tokens, keys[layer].floats());
    subtract_origin(new_values, tokens, values[layer].floats());
    model.table.transpose(values[layer].floats(), tokens, inner, inner, transposed_[layer].floats(),
                          tokens);
    if (layer == 0)
        set_first_layer(model, floats);
    else
        set_second_layer(model, floats);
}

void LowRankPrompt::set_first_layer(const Model& model, float* floats) {
    const LowRankWeights& weights = model.low_rank;
    squares1 = set_products(model, weights.gram1, 0, gram1, floats);
    spread(model, weights.values1, inner, 0, floats);
    model.table.transpose(floats, inner, rows(), rows(), second_values_.floats(), inner);
}

void LowRankPrompt::set_second_layer(const Model& model, float* floats) {
    const LowRankWeights& weights = model.low_rank;
    const int64_t count = rows();
    spread(model, weights.queries1, inner, 0, floats);
    contract(model, keys[1], others(), floats, second_keys);
    squares11 = set_products(model, weights.gram11, 0, gram11, floats);

    spread(model, weights.shift1, 1, 0, origin12.floats());
    spread(model, weights.gram12, inner, 0, floats);
    contract(model, values[1], others(), floats, gram12);
    model.table.gemm_f32(
        {origin_values(1), inner, floats, count, origin12.floats(), count, 1, count, inner, true});

    spread(model, weights.shift2, 1, 1, floats);
    const std::vector<float> shift(floats, floats + count);
    squares22 = set_products(model, weights.gram22, 1, gram22, floats) + 2 * shift.back();
    for (int64_t row = 0; row < count - 1; ++row)
        gram22.floats()[(row + 1) * count - 1] += 2 * shift[static_cast<size_t>(row)];

    spread(model, weights.final_keys1, inner, 0, final_keys_[0].floats());
    spread(model, weights.final_keys2, inner, 1, final_keys_[1].floats());
    add_to_last_column(final_keys_[1].floats(), count, weights.final_key_shift.floats(), inner);
    set_final_values(model, floats);
}

void LowRankPrompt::set_final_values(const Model& model, float* floats) {
    const LowRankWeights& weights = model.low_rank;
    const int64_t count = rows();
    spread(model, weights.final_values1, inner, 0, floats);
    model.table.transpose(floats, inner, count, count, final_values_.floats(), inner);
    spread(model, weights.final_values2, inner, 1, floats);
    add_to_last_column(floats, count, weights.final_value_shift.floats(), inner);
    model.table.transpose(floats, inner, count, count, final_values_.floats() + count * inner,
                          inner);
}

void LowRankPrompt::set_queries(const Model& model, Stage stage, const float* new_queries,
                                int64_t tokens, float* floats) {
    std::copy_n(new_queries, tokens * inner, queries.floats());
    if (stage == Stage::second) {
        spread(model, model.low_rank.keys1, inner, 0, floats);
        contract(model, queries, tokens, floats, folded[0]);
    }
    if (stage != Stage::last) return;
    for (int of = 0; of < 2; ++of)
        contract(model, queries, tokens, final_keys_[of].floats(), folded[of]);
}

void LowRankPrompt::set_upscaling(const Model& model) {
    const LowRankWeights& weights = model.low_rank;
    spread(model, weights.upscale1, width, 0, upscale[0].floats());
    spread(model, weights.upscale2, width, 1, upscale[1].floats());
    add_to_last_column(upscale[1].floats(), rows(), weights.upscale_shift.floats(), width);
}

void LowRankPrompt::finish(const Model& model, Stage stage, AttentionAccumulator& accumulator,
                           int64_t tokens, float* attended, float* floats) const {
    accumulator.divide(model, tokens);
    const bool last = stage == Stage::last;
    const LowRankWeights& weights = model.low_rank;
    const std::vector<float>& bias = last ? weights.final_value_bias
                                     : stage == Stage::second
                                         ? weights.value_bias
                                         : model.token_to_image(stage).value_bias;
    const int64_t columns = stage == Stage::first ? 0 : last ? 2 * rows() : rows();
    const int64_t count = heads * tokens;
    accumulator.read_values(tokens, attended);
    model.table.transpose(accumulator.weighted_rows.floats(), columns, count, count, floats,
                          columns);
    for (int64_t head = 0; columns && head < heads; ++head)
        model.table.gemm_f32({floats + head * tokens * columns, columns,
                              (last ? final_values_ : second_values_).floats() + head * channels,
                              inner, attended + head * channels, inner, tokens, channels, columns,
                              true});
    for (int64_t token = 0; token < tokens; ++token)
        for (int64_t c = 0; c < inner; ++c)
            attended[token * inner + c] += bias[static_cast<size_t>(c)];
}

void LowRankPrompt::spread(const Model& model, const Buffer& matrix, int64_t count, int layer,
                           float* to) const {
    const float* columns = transposed_[layer].floats();
    for (int64_t head = 0; head < heads; ++head)
        model.table.gemm_f32({matrix.floats() + head * channels, inner,
                              columns + head * channels * tokens_, tokens_, to + head * others(),
                              rows(), count, others(), channels, false});
    model.table.gemm_f32({matrix.floats(), inner, columns + others(), tokens_, to + rows() - 1,
                          rows(), count, 1, inner, false});
}

void LowRankPrompt::contract(const Model& model, const Buffer& x, int64_t of_x, const float* spread,
                             const Buffer& to) const {
    for (int64_t head = 0; head < heads; ++head)
        model.table.gemm_f32(
            {x.floats() + head * channels, inner, spread + head * channels * rows(), rows(),
             to.floats() + head * of_x * rows(), rows(), of_x, rows(), channels, false});
}

float LowRankPrompt::set_products(const Model& model, const Buffer& matrix, int layer,
                                  const Buffer& to, float* floats) const {
    spread(model, matrix, inner, layer, floats);
    contract(model, values[layer], others(), floats, to);
    fold(to.floats());
    float sum = 0;
    for (int64_t c = 0; c < inner; ++c)
        sum += origin_values(layer)[c] * floats[(c + 1) * rows() - 1];
    return sum;
}

void LowRankPrompt::fold(float* gram) const {
    for (int64_t row = 0; row < rows() - 1; ++row)
        for (int64_t column = (row / others() + 1) * others(); column < rows(); ++column)
            gram[row * rows() + column] *= 2;
}

}  // namespace fastseg::cpu::sam_decoder
