#include "cpu/sam_decoder/tile_pass.h"

#include <algorithm>
#include <cstring>

namespace fastseg::cpu::sam_decoder {
namespace {

// rows [tokens, 128] of heads times b [128, 256] of heads: [8 * tokens, 256].
void spread_heads(const KernelTable& table, const float* rows, int64_t tokens, const Buffer& b,
                  float* to) {
    for (int64_t head = 0; head < heads; ++head)
        table.gemm_f32({rows + head * channels, inner, b.floats() + head * channels * width, width,
                        to + head * tokens * width, width, tokens, width, channels, false});
}

}  // namespace

void HeadRows::fill(const Model& model, const float* rows, int64_t tokens, float* floats) {
    if (!model.table.bf16) {
        std::memcpy(data.bytes(), rows, static_cast<size_t>(tokens * inner) * sizeof(float));
        return;
    }
    const int64_t padded = model.padded(heads * tokens);
    std::fill(floats, floats + padded * inner, 0.0f);
    for (int64_t head = 0; head < heads; ++head)
        for (int64_t token = 0; token < tokens; ++token)
            std::memcpy(floats + (head * tokens + token) * inner + head * channels,
                        rows + token * inner + head * channels, channels * sizeof(float));
    model.table.pack_a(floats, data.bytes(), padded, inner);
}

TokenKeysValues::TokenKeysValues(const Model& model, int64_t tokens, bool folded) {
    const int64_t rows = model.padded(heads * tokens), element = model.element();
    keys.data = Buffer(rows * inner * element);
    values = Buffer(width * rows * element);
    if (folded) folded_keys = Buffer(rows * width * element);
}

void TokenKeysValues::fill(const Model& model, const ImageToTokenAttention& attention,
                           const float* keys_of_tokens, const float* values_of_tokens,
                           int64_t tokens, float* floats) {
    const KernelTable& table = model.table;
    const int64_t rows = heads * tokens, padded = model.padded(rows);
    keys.fill(model, keys_of_tokens, tokens, floats);
    if (folded_keys) {
        spread_heads(table, keys_of_tokens, tokens, attention.queries, floats);
        std::fill(floats + rows * width, floats + padded * width, 0.0f);
        table.pack_a(floats, folded_keys.bytes(), padded, width);
    }
    spread_heads(table, values_of_tokens, tokens, attention.out, floats);
    // The weights of each head sum to one: an eighth of the bias on the values of every head.
    for (int64_t row = 0; row < rows; ++row)
        for (int64_t c = 0; c < width; ++c)
            floats[row * width + c] += attention.out_bias[static_cast<size_t>(c)] / heads;
    std::fill(floats + rows * width, floats + padded * width, 0.0f);
    float* transposed = floats + padded * width;
    table.transpose(floats, padded, width, width, transposed, padded);
    table.pack_a(transposed, values.bytes(), width, padded);
}

TokenQueries::TokenQueries(const Model& model, int64_t tokens, bool with_folded) {
    const int64_t rows = model.padded(heads * tokens), element = model.element();
    queries.data = Buffer(rows * inner * element);
    if (with_folded) folded = Buffer(rows * width * element);
}

void TokenQueries::fill(const Model& model, const TokenToImageAttention& attention,
                        const float* queries_of_tokens, int64_t tokens, float* floats) {
    const int64_t rows = heads * tokens, padded = model.padded(rows);
    queries.fill(model, queries_of_tokens, tokens, floats);
    if (folded) {
        spread_heads(model.table, queries_of_tokens, tokens, attention.keys, floats);
        std::fill(floats + rows * width, floats + padded * width, 0.0f);
        model.table.pack_a(floats, folded.bytes(), padded, width);
    }
}

TilePrompt::TilePrompt(const Model& model, int64_t most)
    : projected_queries(model, most, false), folded_queries(model, most, true) {
    for (int layer = 0; layer < 2; ++layer)
        keys_values[layer] = TokenKeysValues(model, most, layer == 1);
}

int64_t TilePrompt::scratch_floats(const Model& model, int64_t most) {
    return 2 * width * model.padded(heads * most);
}

void TilePrompt::set_keys_values(const Model& model, int layer, const float* keys,
                                 const float* values, int64_t count, float* floats) {
    tokens = count;
    keys_values[layer].fill(model, model.layers[layer].image_to_token, keys, values, count, floats);
}

void TilePrompt::set_queries(const Model& model, Stage stage, const float* queries, int64_t count,
                             float* floats) {
    (stage == Stage::first ? projected_queries : folded_queries)
        .fill(model, model.token_to_image(stage), queries, count, floats);
}

void TilePrompt::finish(const Model& model, Stage stage, AttentionAccumulator& accumulator,
                        int64_t count, float* attended, float* floats) const {
    accumulator.finish(model, model.token_to_image(stage), count, attended, floats);
}

TilePass::TilePass(const Model& model, int64_t tokens) : model_(model), table_(model.table) {
    const int64_t rows = model.padded(heads * tokens), element = model.element();
    logits_ = float_buffer(rows * tile_size);
    first_ = Buffer(width * tile_size * element);
    second_ = Buffer(width * tile_size * element);
    transposed_ = Buffer(rows * table_.span * tile_size * element);
    if (table_.bf16) {
        weights_ = Buffer(rows * tile_size * element);
        packed_b_ = Buffer(width * tile_size * element);
        packed_a_ = Buffer(width * table_.span * tile_size * element);
    }
}

void TilePass::compute_logits(const HeadRows& rows, const std::byte* b, const Buffer* folded,
                              int64_t tokens) {
    const int64_t count = heads * tokens, n = tile_size;
    float* logits = logits_.floats();
    if (!table_.bf16) {
        // Rows of float32 lie as they came, [tokens, 128], and not head by head.
        for (int64_t head = 0; head < heads; ++head)
            table_.gemm({rows.data.floats() + head * channels, inner,
                         b + b_offset(table_, inner, n, head * channels, 0), n,
                         logits + head * tokens * n, n, tokens, n, channels, false});
        if (folded)
            table_.gemm({folded->bytes(), width, current_, n, logits, n, count, n, width, true});
        return;
    }
    // A block of 32 rows holds few heads: only their channels, in pairs of heads, are not zero.
    for (int64_t row = 0; row < model_.padded(count); row += 32) {
        const int64_t first = std::min(row, count - 1) / tokens / 2;
        const int64_t last = std::min(row + 31, count - 1) / tokens / 2;
        const int64_t column = first * 2 * channels;
        const Gemm placed{rows.data.bytes() + a_offset(table_, inner, row, column),
                          inner,
                          b + b_offset(table_, inner, n, column, 0),
                          inner,
                          logits + row * n,
                          n,
                          32,
                          n,
                          (last - first + 1) * 2 * channels,
                          false};
        if (folded)
            table_.gemm_pair(placed, {folded->bytes() + a_offset(table_, width, row, 0), width,
                                      current_, width, logits + row * n, n, 32, n, width, false});
        else
            table_.gemm(placed);
    }
}

void TilePass::apply_update(const TokenKeysValues& keys_values, const void* residual,
                            const Norm& norm, int64_t tokens, int64_t slot, bool for_attention,
                            Buffer& to) {
    const int64_t n = tile_size, padded = model_.padded(heads * tokens);
    table_.softmax_over_tokens(logits_.floats(), tokens, weights_.bytes(), padded);
    const void* weights = table_.bf16 ? weights_.bytes() : logits_.bytes();
    const int64_t k = table_.bf16 ? padded : heads * tokens;
    void* packed_a = table_.bf16 && for_attention ? packed_a_.bytes() : nullptr;
    table_.gemm_residual_layernorm(
        {keys_values.values.bytes(), padded, weights, b_stride(table_, padded, n), to.floats(), n,
         width, n, k, false},
        {to.bytes(), residual, norm.scale.data(), norm.shift.data(),
         static_cast<float>(model_.epsilon), packed_b_.bytes(), packed_a, slot});
    current_ = table_.bf16 ? packed_b_.bytes() : to.bytes();
}

bool TilePass::online_softmax(AttentionAccumulator& accumulator, int64_t valid, int64_t tokens) {
    const int64_t n = tile_size, rows = heads * tokens;
    if (valid < n)
        for (int64_t row = 0; row < rows; ++row)
            std::fill(logits_.floats() + row * n + valid, logits_.floats() + (row + 1) * n,
                      masked_logit);
    return table_.online_softmax(
        {logits_.floats(), rows, weights_.bytes(), accumulator.running_max.floats(),
         accumulator.running_sums.floats(), accumulator.rescale_factors.floats()});
}

AttentionAccumulator TilePass::accumulator(const Model& model, int64_t tokens, Stage stage) {
    using Form = AttentionAccumulator::Form;
    return {model, tokens, stage == Stage::first ? Form::projected : Form::folded};
}

void TilePass::attend(Stage stage, const TileCursor& at, const Prompt& prompt,
                      AttentionAccumulator& accumulator, int64_t tokens) {
    if (stage == Stage::first)
        return attend_projected(at, prompt.projected_queries, accumulator, tokens);
    attend_folded(model_.token_to_image(stage), at, prompt.folded_queries, accumulator, tokens);
    if (at.ends_span) accumulate_pending(accumulator, tokens);
}

int64_t TilePass::second_bytes(const Model& model, int64_t) {
    return width * tile_size * model.element();
}

void TilePass::upscale(const TileCursor&, const Prompt&, int64_t part, float* to) {
    constexpr int64_t quarter = width / 4;
    table_.gemm({model_.head.first.bytes() + a_offset(table_, width, part * quarter, 0), width,
                 current_, b_stride(table_, width, tile_size), to, tile_size, quarter, tile_size,
                 width, false});
}

void TilePass::attend_projected(const TileCursor& at, const TokenQueries& queries,
                                AttentionAccumulator& accumulator, int64_t tokens) {
    const int64_t n = tile_size, rows = heads * tokens;
    compute_logits(queries.queries, at.image.keys, nullptr, tokens);
    float* weighted_values = accumulator.weighted_values.floats();
    if (online_softmax(accumulator, at.valid, tokens)) accumulator.rescale(model_, tokens);
    const void* weights = table_.bf16 ? weights_.bytes() : logits_.bytes();
    // In bfloat16 a block of 16 rows takes the channels of all heads that it holds.
    const int64_t step = table_.bf16 ? 16 : tokens;
    for (int64_t row = 0; row < rows; row += step) {
        const int64_t head = row / tokens, last = std::min(row + step - 1, rows - 1) / tokens;
        const int64_t column = head * channels;
        table_.gemm({static_cast<const std::byte*>(weights) + a_offset(table_, n, row, 0), n,
                     at.image.values + b_offset(table_, n, inner, 0, column),
                     b_stride(table_, n, inner), weighted_values + row * inner + column, inner,
                     step, (last - head + 1) * channels, n, !accumulator.empty});
    }
    accumulator.empty = false;
}

void TilePass::update_first_layer(const TileCursor& at, const Prompt& prompt, bool for_attention,
                                  std::byte*) {
    compute_logits(prompt.keys_values[0].keys, at.image.queries, nullptr, prompt.tokens);
    apply_update(prompt.keys_values[0], at.image.image, model_.layers[0].image_to_token.norm,
                 prompt.tokens, at.slot, for_attention, first_);
}

void TilePass::update_second_layer(const TileCursor& at, const Prompt& prompt, bool for_attention,
                                   std::byte* to) {
    const ImageToTokenAttention& attention = model_.layers[1].image_to_token;
    compute_logits(prompt.keys_values[1].keys,
                   attention.positions.bytes() + at.tile * inner * tile_size * model_.element(),
                   &prompt.keys_values[1].folded_keys, prompt.tokens);
    apply_update(prompt.keys_values[1], first_.bytes(), attention.norm, prompt.tokens, at.slot,
                 for_attention, second_);
    if (to) std::memcpy(to, current_, static_cast<size_t>(second_bytes(model_, prompt.tokens)));
}

void TilePass::attend_folded(const TokenToImageAttention& attention, const TileCursor& at,
                             const TokenQueries& queries, AttentionAccumulator& accumulator,
                             int64_t tokens) {
    const int64_t padded = model_.padded(heads * tokens);
    compute_logits(queries.queries,
                   attention.positions.bytes() + at.tile * inner * tile_size * model_.element(),
                   &queries.folded, tokens);
    if (online_softmax(accumulator, at.valid, tokens)) {
        accumulate_pending(accumulator, tokens);
        accumulator.rescale(model_, tokens);
    }
    if (first_pending_ == end_pending_) first_pending_ = at.slot;
    end_pending_ = at.slot + 1;
    table_.pack_transposed(table_.bf16 ? weights_.bytes() : logits_.bytes(), padded, at.slot,
                           transposed_.bytes());
}

void TilePass::accumulate_pending(AttentionAccumulator& accumulator, int64_t tokens) {
    const int64_t padded = model_.padded(heads * tokens), wide = table_.span * tile_size;
    const int64_t from = first_pending_ * tile_size,
                  k = (end_pending_ - first_pending_) * tile_size;
    first_pending_ = end_pending_ = 0;
    if (k == 0) return;
    const std::byte* image = table_.bf16 ? packed_a_.bytes() : current_;
    table_.gemm({image + a_offset(table_, wide, 0, from), wide,
                 transposed_.bytes() + b_offset(table_, wide, padded, from, 0),
                 b_stride(table_, wide, padded), accumulator.weighted_values.floats(), padded,
                 width, padded, k, !accumulator.empty});
    accumulator.empty = false;
}

}  // namespace fastseg::cpu::sam_decoder
