#include "cpu/sam_decoder/low_rank_pass.h"

#include <algorithm>

namespace fastseg::cpu::sam_decoder {
namespace {

constexpr int64_t n = tile_size;

}  // namespace

LowRankPass::LowRankPass(const Model& model, int64_t tokens) : model_(model), table_(model.table) {
    const int64_t rows = heads * tokens, most = std::max(rows, heads * model.outputs());
    for (Buffer& own : own_) own = Buffer(first_bytes(model, tokens));
    logits_ = float_buffer(most * n);
    transposed_ = float_buffer(most * n);
    scratch_ = float_buffer(rows * n);
}

AttentionAccumulator LowRankPass::accumulator(const Model& model, int64_t tokens, Stage stage) {
    const int64_t layers = stage == Stage::first ? 0 : stage == Stage::second ? 1 : 2;
    return {model, tokens, AttentionAccumulator::Form::projected, layers * heads * tokens};
}

void LowRankPass::update_first_layer(const TileCursor& at, const Prompt& prompt, bool,
                                     std::byte* to) {
    const SharedMaps shared = shared_maps(model_, at.state, at.tile);
    rows_ = prompt.rows();
    const int64_t tokens = rows_ / heads;
    float *weights = begin_layer(0, to), *rates = weights + rows_ * n, squares[n];
    chain({heads_term(prompt.keys[0], reinterpret_cast<const float*>(at.image.queries))}, tokens,
          weights);
    table_.softmax_over_tokens(weights, tokens, nullptr, rows_);
    chain({heads_term(prompt.values[0], shared.products1), matrix_term(prompt.gram1, tokens, 0)},
          tokens, scratch_.floats());
    table_.column_dots(weights, scratch_.floats(), rows_, squares);
    for (int64_t i = 0; i < n; ++i) squares[i] += shared.squares[i];
    table_.inverse_deviations(squares, static_cast<float>(model_.epsilon), rates);
}

void LowRankPass::update_second_layer(const TileCursor& at, const Prompt& prompt, bool,
                                      std::byte* to) {
    const SharedMaps shared = shared_maps(model_, at.state, at.tile);
    const int64_t tokens = rows_ / heads;
    float *weights = begin_layer(1, to), *rates = weights + rows_ * n;
    chain({heads_term(prompt.keys[1], shared.queries),
           matrix_term(prompt.second_keys, tokens, 0, rates_[0]),
           heads_term(prompt.keys[1], model_.low_rank.positions.floats() + at.tile * inner * n)},
          tokens, weights);
    table_.softmax_over_tokens(weights, tokens, nullptr, rows_);

    float *scratch = scratch_.floats(), of_first[n], of_both[n], of_second[n];
    chain({heads_term(prompt.values[0], shared.products11), matrix_term(prompt.gram11, tokens, 0)},
          tokens, scratch);
    table_.column_dots(weights_[0], scratch, rows_, of_first);
    chain({heads_term(prompt.values[1], shared.products2), matrix_term(prompt.gram12, tokens, 0)},
          tokens, scratch);
    table_.column_dots(weights, scratch, rows_, of_both);
    chain({matrix_term(prompt.gram22, tokens, 1)}, tokens, scratch);
    table_.column_dots(weights, scratch, rows_, of_second);
    for (int64_t i = 0; i < n; ++i) {
        const float rate = rates_[0][i];
        of_second[i] += rate * rate * (shared.middle_squares[i] + of_first[i]) +
                        2 * rate * (shared.middle_shift[i] + of_both[i]) +
                        model_.low_rank.middle_squares;
    }
    table_.inverse_deviations(of_second, static_cast<float>(model_.epsilon), rates);
}

void LowRankPass::attend(Stage stage, const TileCursor& at, const Prompt& prompt,
                         AttentionAccumulator& accumulator, int64_t tokens) {
    if (stage == Stage::first) return attend_shared(at, prompt, accumulator, tokens);
    const SharedMaps shared = shared_maps(model_, at.state, at.tile);
    const int64_t count = heads * tokens;
    float* logits = logits_.floats();
    const HeadTerm positions = heads_term(
        prompt.queries, model_.token_to_image(stage).positions.floats() + at.tile * inner * n);
    const HeadTerm of_first = matrix_term(prompt.folded[0], tokens, 0, rates_[0]);
    if (stage == Stage::second) {
        chain({heads_term(prompt.queries, shared.keys), of_first, positions}, tokens, logits);
        online_softmax(accumulator, at.valid, tokens);
    } else {
        chain({heads_term(prompt.queries, shared.final_keys), of_first,
               matrix_term(prompt.folded[1], tokens, 1, rates_[1]), positions},
              tokens, logits);
        online_softmax(accumulator, at.valid, tokens);
        table_.scale_columns(logits, count, rates_[1]);
        add_rows(1, accumulator, tokens);
    }
    table_.scale_columns(logits, count, rates_[0]);
    add_rows(0, accumulator, tokens);
    add_values(stage == Stage::second ? shared.values : shared.final_values, accumulator, tokens);
    accumulator.empty = false;
}

void LowRankPass::attend_shared(const TileCursor& at, const Prompt& prompt,
                                AttentionAccumulator& accumulator, int64_t tokens) {
    chain({heads_term(prompt.queries, reinterpret_cast<const float*>(at.image.keys))}, tokens,
          logits_.floats());
    online_softmax(accumulator, at.valid, tokens);
    add_values(reinterpret_cast<const float*>(at.image.values), accumulator, tokens);
    accumulator.empty = false;
}

int64_t LowRankPass::first_bytes(const Model&, int64_t tokens) {
    return (heads * tokens + 1) * n * 4;
}

int64_t LowRankPass::second_bytes(const Model& model, int64_t tokens) {
    return first_bytes(model, tokens);
}

void LowRankPass::load_first_layer(const std::byte* from, const Prompt& prompt) {
    rows_ = prompt.rows();
    weights_[0] = reinterpret_cast<const float*>(from);
    rates_[0] = weights_[0] + rows_ * n;
}

void LowRankPass::load_second_layer(const std::byte* from) {
    weights_[1] = reinterpret_cast<const float*>(from);
    rates_[1] = weights_[1] + rows_ * n;
}

float* LowRankPass::begin_layer(int layer, std::byte* to) {
    auto* weights = to ? reinterpret_cast<float*>(to) : own_[layer].floats();
    weights_[layer] = weights;
    rates_[layer] = weights + rows_ * n;
    return weights;
}

void LowRankPass::upscale(const TileCursor& at, const Prompt& prompt, int64_t part, float* to) {
    constexpr int64_t quarter = width / 4;
    const SharedMaps shared = shared_maps(model_, at.state, at.tile);
    std::copy_n(shared.upscaled + part * quarter * n, quarter * n, to);
    for (int layer = 0; layer < 2; ++layer) {
        table_.gemm_f32({prompt.upscale[layer].floats() + part * quarter * rows_, rows_,
                         weights_[layer], n, to, n, quarter, n, rows_, true});
        table_.scale_columns(to, quarter, rates_[layer]);
    }
}

HeadTerm LowRankPass::heads_term(const Buffer& x, const float* map, const float* scale) const {
    return {x.floats(), channels, inner, map, channels * n, channels, scale};
}

HeadTerm LowRankPass::matrix_term(const Buffer& matrix, int64_t tokens, int layer,
                                  const float* scale) const {
    return {matrix.floats(), tokens * rows_, rows_, weights_[layer], 0, rows_, scale};
}

void LowRankPass::chain(std::initializer_list<HeadTerm> terms, int64_t tokens, float* to) const {
    table_.head_chain(terms.begin(), static_cast<int64_t>(terms.size()), tokens, to);
}

void LowRankPass::online_softmax(AttentionAccumulator& accumulator, int64_t valid, int64_t tokens) {
    const int64_t count = heads * tokens;
    float* logits = logits_.floats();
    if (valid < n)
        for (int64_t row = 0; row < count; ++row)
            std::fill(logits + row * n + valid, logits + (row + 1) * n, masked_logit);
    if (table_.online_softmax({logits, count, nullptr, accumulator.running_max.floats(),
                               accumulator.running_sums.floats(),
                               accumulator.rescale_factors.floats()}))
        accumulator.rescale(model_, tokens);
}

void LowRankPass::add_values(const float* values, AttentionAccumulator& accumulator,
                             int64_t tokens) const {
    for (int64_t head = 0; head < heads; ++head)
        table_.gemm_f32(
            {logits_.floats() + head * tokens * n, n, values + head * channels, inner,
             accumulator.weighted_values.floats() + head * tokens * inner + head * channels, inner,
             tokens, channels, n, !accumulator.empty});
}

void LowRankPass::add_rows(int layer, AttentionAccumulator& accumulator, int64_t tokens) const {
    const int64_t count = heads * tokens;
    table_.transpose(logits_.floats(), count, n, n, transposed_.floats(), count);
    table_.gemm_f32({weights_[layer], n, transposed_.floats(), count,
                     accumulator.weighted_rows.floats() + layer * rows_ * count, count, rows_,
                     count, n, !accumulator.empty});
}

}  // namespace fastseg::cpu::sam_decoder
