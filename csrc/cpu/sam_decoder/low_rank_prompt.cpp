#include "cpu/sam_decoder/low_rank_prompt.h"

#include <algorithm>

namespace fastseg::cpu::sam_decoder {

LowRankPrompt::LowRankPrompt(const Model& model, int64_t most) {
    const int64_t rows = heads * most;
    queries = float_buffer(std::max(most, model.outputs()) * inner);
    for (Buffer* buffer :
         {&keys[0], &keys[1], &values[0], &values[1], &transposed_[0], &transposed_[1]})
        *buffer = float_buffer(most * inner);
    for (Buffer* buffer : {&gram1, &second_keys, &gram11, &gram12, &gram22, &folded[0], &folded[1]})
        *buffer = float_buffer(rows * rows);
    for (Buffer* buffer : {&final_keys_[0], &final_keys_[1], &second_values_})
        *buffer = float_buffer(inner * rows);
    for (Buffer* buffer : {&final_values_, &upscale[0], &upscale[1]})
        *buffer = float_buffer(2 * inner * rows);
}

int64_t LowRankPrompt::scratch_floats(const Model& model, int64_t most) {
    const int64_t rows = heads * most, queries = heads * std::max(most, model.outputs());
    return std::max(inner * rows, 2 * rows * queries);
}

void LowRankPrompt::set_keys_values(const Model& model, int layer, const float* new_keys,
                                    const float* new_values, int64_t tokens, float* floats) {
    const LowRankWeights& weights = model.low_rank;
    tokens_ = tokens;
    std::copy_n(new_keys, tokens * inner, keys[layer].floats());
    std::copy_n(new_values, tokens * inner, values[layer].floats());
    model.table.transpose(new_values, tokens, inner, inner, transposed_[layer].floats(), tokens);
    const int64_t count = rows();
    if (layer == 0) {
        spread(model, weights.gram1, inner, 0, floats);
        contract(model, values[0], tokens, floats, gram1);
        spread(model, weights.values1, inner, 0, floats);
        model.table.transpose(floats, inner, count, count, second_values_.floats(), inner);
        return;
    }
    const auto inner_products = [&](const Buffer& matrix, const Buffer& x, int of, Buffer& to) {
        spread(model, matrix, inner, of, floats);
        contract(model, x, tokens, floats, to);
    };
    inner_products(weights.queries1, keys[1], 0, second_keys);
    inner_products(weights.gram11, values[0], 0, gram11);
    inner_products(weights.gram12, values[1], 0, gram12);
    inner_products(weights.gram22, values[1], 1, gram22);
    for (int64_t row = 0; row < count; ++row) {
        add_to_head(gram22.floats() + row * count, 2 * along(1, weights.shift2, row));
        const float shift = along(0, weights.shift1, row);
        for (int64_t token = 0; token < tokens; ++token)
            gram12.floats()[token * count + row] += shift;
    }
    for (int of = 0; of < 2; ++of) {
        spread(model, of ? weights.final_keys2 : weights.final_keys1, inner, of,
               final_keys_[of].floats());
        spread(model, of ? weights.final_values2 : weights.final_values1, inner, of, floats);
        model.table.transpose(floats, inner, count, count,
                              final_values_.floats() + of * count * inner, inner);
    }
    float* second = final_values_.floats() + count * inner;
    for (int64_t token = 0; token < tokens; ++token)
        for (int64_t c = 0; c < inner; ++c)
            second[token * inner + c] += weights.final_value_shift.floats()[c];
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
    for (int64_t row = 0; row < heads * tokens; ++row) {
        const int64_t head = row / tokens, token = row % tokens;
        const float* query = queries.floats() + token * inner + head * channels;
        float sum = 0;
        for (int64_t c = 0; c < channels; ++c)
            sum += query[c] * model.low_rank.final_key_shift.floats()[head * channels + c];
        add_to_head(folded[1].floats() + row * rows(), sum);
    }
}

void LowRankPrompt::set_upscaling(const Model& model) {
    const LowRankWeights& weights = model.low_rank;
    spread(model, weights.upscale1, width, 0, upscale[0].floats());
    spread(model, weights.upscale2, width, 1, upscale[1].floats());
    for (int64_t c = 0; c < width; ++c)
        add_to_head(upscale[1].floats() + c * rows(), weights.upscale_shift.floats()[c]);
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
    for (int64_t head = 0; head < heads; ++head)
        model.table.gemm_f32({matrix.floats() + head * channels, inner,
                              transposed_[layer].floats() + head * channels * tokens_, tokens_,
                              to + head * tokens_, rows(), count, tokens_, channels, false});
}

void LowRankPrompt::contract(const Model& model, const Buffer& x, int64_t of_x, const float* spread,
                             const Buffer& to) const {
    for (int64_t head = 0; head < heads; ++head)
        model.table.gemm_f32(
            {x.floats() + head * channels, inner, spread + head * channels * rows(), rows(),
             to.floats() + head * of_x * rows(), rows(), of_x, rows(), channels, false});
}

float LowRankPrompt::along(int layer, const Buffer& vector, int64_t row) const {
    const int64_t head = row / tokens_, token = row % tokens_;
    const float* value = values[layer].floats() + token * inner + head * channels;
    float sum = 0;
    for (int64_t c = 0; c < channels; ++c) sum += value[c] * vector.floats()[head * channels + c];
    return sum;
}

void LowRankPrompt::add_to_head(float* row, float term) const {
    for (int64_t token = 0; token < tokens_; ++token) row[token] += term;
}

}  // namespace fastseg::cpu::sam_decoder
