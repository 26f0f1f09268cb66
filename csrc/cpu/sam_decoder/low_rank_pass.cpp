#include "cpu/sam_decoder/low_rank_pass.h"

#include <algorithm>

namespace fastseg::cpu::sam_decoder {
namespace {

constexpr int64_t n = tile_size;

}  // namespace

LowRankPass::LowRankPass(const Model& model, int64_t tokens)
    : model_(model), table_(model.table), next_(shared_tile_floats(model)) {
    const int64_t most = heads * std::max(tokens, model.outputs());
    for (Buffer& own : own_) own = Buffer(first_bytes(model, tokens));
    logits_ = float_buffer(most * n);
    transposed_ = float_buffer(most * n);
    scratch_ = float_buffer(heads * tokens * n);
}

AttentionAccumulator LowRankPass::accumulator(const Model& model, int64_t tokens, Stage stage) {
    const int64_t layers = stage == Stage::first ? 0 : stage == Stage::second ? 1 : 2;
    return {model, tokens, AttentionAccumulator::Form::projected, layers * Prompt::rows_of(tokens)};
}

void LowRankPass::update_first_layer(const TileCursor& at, const Prompt& prompt, bool,
                                     std::byte* to) {
    const SharedMaps shared = shared_maps(model_, at.state, at.tile);
    rows_ = prompt.rows();
    others_ = prompt.others();
    float *weights = begin_layer(0, to), *rates = weights + rows_ * n, squares[n];
    chain({image_term(prompt.keys[0], at.image.queries)}, others_, weights);
    table_.softmax_beside_zero(weights, others_);
    weigh({heads_term(prompt.values[0], shared.products1, next_), folded_term(prompt.gram1, 0)}, 0,
          squares);
    table_.add_row_product(prompt.origin_values(0), shared.products1, inner, squares);
    for (int64_t i = 0; i < n; ++i) squares[i] += shared.squares[i] + prompt.squares1;
    table_.inverse_deviations(squares, static_cast<float>(model_.epsilon), rates);
}

void LowRankPass::update_second_layer(const TileCursor& at, const Prompt& prompt, bool,
                                      std::byte* to) {
    const SharedMaps shared = shared_maps(model_, at.state, at.tile);
    float *weights = begin_layer(1, to), *rates = weights + rows_ * n;
    chain({heads_term(prompt.keys[1], shared.queries, next_),
           matrix_term(prompt.second_keys, others_, 0, rates_[0]),
           positions_term(prompt.keys[1], model_.low_rank.positions, at.tile)},
          others_, weights);
    table_.softmax_beside_zero(weights, others_);

    float of_first[n], of_both[n], of_second[n];
    weigh({heads_term(prompt.values[0], shared.products11, next_), folded_term(prompt.gram11, 0)},
          0, of_first);
    table_.add_row_product(prompt.origin_values(0), shared.products11, inner, of_first);
    weigh({heads_term(prompt.values[1], shared.products2, next_),
           matrix_term(prompt.gram12, others_, 0)},
          1, of_both);
    table_.add_row_product(prompt.origin_values(1), shared.products2, inner, of_both);
    table_.add_row_product(prompt.origin12.floats(), weights_[0], rows_, of_both);
    weigh({folded_term(prompt.gram22, 1)}, 1, of_second);
    for (int64_t i = 0; i < n; ++i) {
        const float rate = rates_[0][i];
        const float first = shared.middle_squares[i] + of_first[i] + prompt.squares11;
        const float both = shared.middle_shift[i] + of_both[i];
        of_second[i] += rate * rate * first + 2 * rate * both + prompt.squares22 +
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
    const HeadTerm positions =
        positions_term(prompt.queries, model_.token_to_image(stage).positions, at.tile);
    const HeadTerm of_first = matrix_term(prompt.folded[0], tokens, 0, rates_[0]);
    const bool last = stage == Stage::last;
    if (last)
        chain({heads_term(prompt.queries, shared.final_keys, next_), of_first,
               matrix_term(prompt.folded[1], tokens, 1, rates_[1]), positions},
              tokens, logits);
    else
        chain({heads_term(prompt.queries, shared.keys, next_), of_first, positions}, tokens,
              logits);
    online_softmax(accumulator, at.valid, tokens);
    if (last) {
        table_.scale_columns(logits, count, rates_[1]);
        add_rows(1, accumulator, tokens);
    }
    table_.scale_columns(logits, count, rates_[0]);
    add_rows(0, accumulator, tokens);
    add_values(last ? shared.final_values : shared.values, next_, accumulator, tokens);
    accumulator.empty = false;
}

void LowRankPass::attend_shared(const TileCursor& at, const Prompt& prompt,
                                AttentionAccumulator& accumulator, int64_t tokens) {
    chain({image_term(prompt.queries, at.image.keys)}, tokens, logits_.floats());
    online_softmax(accumulator, at.valid, tokens);
    add_values(reinterpret_cast<const float*>(at.image.values), state_tile_bytes(model_) / 4,
               accumulator, tokens);
    accumulator.empty = false;
}

int64_t LowRankPass::first_bytes(const Model&, int64_t tokens) {
    return (Prompt::rows_of(tokens) + 1) * n * 4;
}

int64_t LowRankPass::second_bytes(const Model& model, int64_t tokens) {
    return first_bytes(model, tokens);
}

void LowRankPass::load_first_layer(const std::byte* from, const Prompt& prompt) {
    rows_ = prompt.rows();
    others_ = prompt.others();
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
    std::fill_n(weights + (rows_ - 1) * n, n, 1.0f);
    return weights;
}

void LowRankPass::upscale(const TileCursor& at, const Prompt& prompt, int64_t part, float* to) {
    constexpr int64_t quarter = width / 4;
    const SharedMaps shared = shared_maps(model_, at.state, at.tile);
    HeadTerm terms[2];
    for (int layer = 0; layer < 2; ++layer)
        terms[layer] = {prompt.upscale[layer].floats() + part * quarter * rows_,
                        0,
                        rows_,
                        weights_[layer],
                        0,
                        rows_,
                        0,
                        rates_[layer]};
    const float* from = shared.upscaled + part * quarter * n;
    prefetch(from + next_, quarter * n * 4);
    table_.head_chain({terms, 2, 1, quarter, from, to});
}

HeadTerm LowRankPass::heads_term(const Buffer& x, const float* map, int64_t ahead) const {
    return {x.floats(), channels, inner, map, channels * n, channels, 0, nullptr, ahead};
}

HeadTerm LowRankPass::image_term(const Buffer& x, const std::byte* map) const {
    return heads_term(x, reinterpret_cast<const float*>(map), state_tile_bytes(model_) / 4);
}

HeadTerm LowRankPass::positions_term(const Buffer& x, const Buffer& positions, int64_t tile) const {
    return heads_term(x, positions.floats() + tile * inner * n, inner * n);
}

HeadTerm LowRankPass::matrix_term(const Buffer& matrix, int64_t tokens, int layer,
                                  const float* scale) const {
    return {matrix.floats(), tokens * rows_, rows_, weights_[layer], 0, rows_, 0, scale};
}

HeadTerm LowRankPass::folded_term(const Buffer& gram, int layer) const {
    return {gram.floats(), others_ * rows_ + others_,
            rows_,         weights_[layer],
            others_ * n,   rows_,
            others_,       nullptr};
}

void LowRankPass::chain(std::initializer_list<HeadTerm> terms, int64_t tokens, float* to) const {
    table_.head_chain(
        {terms.begin(), static_cast<int64_t>(terms.size()), heads, tokens, nullptr, to});
}

void LowRankPass::weigh(std::initializer_list<HeadTerm> terms, int layer, float* to) {
    chain(terms, others_, scratch_.floats());
    table_.column_dots(weights_[layer], scratch_.floats(), heads * others_, to);
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

void LowRankPass::add_values(const float* values, int64_t ahead, AttentionAccumulator& accumulator,
                             int64_t tokens) const {
    prefetch(values + ahead, inner * n * 4);
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
