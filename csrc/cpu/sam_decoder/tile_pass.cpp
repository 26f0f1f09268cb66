#include "cpu/sam_decoder/tile_pass.h"

#include <algorithm>
#include <cstring>

namespace fastseg::cpu::sam_decoder {
namespace {

constexpr float hidden_logit = -1e30f;  // of places beyond the end of the image

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

Sent::Sent(const Model& model, int64_t tokens, bool raw) {
    const int64_t rows = model.padded(heads * tokens), element = model.element();
    keys.data = Buffer(rows * inner * element);
    values = Buffer(width * rows * element);
    if (raw) queries = Buffer(rows * width * element);
}

void Sent::fill(const Model& model, const Update& update, const float* keys_of_tokens,
                const float* values_of_tokens, int64_t tokens, float* floats) {
    const KernelTable& table = model.table;
    const int64_t rows = heads * tokens, padded = model.padded(rows);
    keys.fill(model, keys_of_tokens, tokens, floats);
    if (queries) {
        spread_heads(table, keys_of_tokens, tokens, update.queries, floats);
        std::fill(floats + rows * width, floats + padded * width, 0.0f);
        table.pack_a(floats, queries.bytes(), padded, width);
    }
    spread_heads(table, values_of_tokens, tokens, update.out, floats);
    // The weights of each head sum to one: an eighth of the bias on the values of every head.
    for (int64_t row = 0; row < rows; ++row)
        for (int64_t c = 0; c < width; ++c)
            floats[row * width + c] += update.out_bias[static_cast<size_t>(c)] / heads;
    std::fill(floats + rows * width, floats + padded * width, 0.0f);
    float* turned = floats + padded * width;
    table.transpose(floats, padded, width, width, turned, padded);
    table.pack_a(turned, values.bytes(), width, padded);
}

Looking::Looking(const Model& model, int64_t tokens, bool with_raw) {
    const int64_t rows = model.padded(heads * tokens), element = model.element();
    queries.data = Buffer(rows * inner * element);
    if (with_raw) raw = Buffer(rows * width * element);
}

void Looking::start(const Model& model, const Look& look, const float* queries_of_tokens,
                    int64_t tokens, float* floats) {
    const int64_t rows = heads * tokens, padded = model.padded(rows);
    queries.fill(model, queries_of_tokens, tokens, floats);
    if (raw) {
        spread_heads(model.table, queries_of_tokens, tokens, look.keys, floats);
        std::fill(floats + rows * width, floats + padded * width, 0.0f);
        model.table.pack_a(floats, raw.bytes(), padded, width);
    }
}

Sweep::Sweep(const Model& model, int64_t tokens) : model_(model), table_(model.table) {
    const int64_t rows = model.padded(heads * tokens), element = model.element();
    maps_ = float_buffer(rows * tile_size);
    first_ = Buffer(width * tile_size * element);
    second_ = Buffer(width * tile_size * element);
    turned_ = Buffer(rows * table_.span * tile_size * element);
    if (table_.bf16) {
        weights_ = Buffer(rows * tile_size * element);
        as_b_ = Buffer(width * tile_size * element);
        as_a_ = Buffer(width * table_.span * tile_size * element);
    }
}

void Sweep::maps(const HeadRows& rows, const std::byte* b, const Buffer* raw, int64_t tokens) {
    const int64_t count = heads * tokens, n = tile_size;
    float* maps = maps_.floats();
    if (!table_.bf16) {
        // Rows of float32 lie as they came, [tokens, 128], and not head by head.
        for (int64_t head = 0; head < heads; ++head)
            table_.gemm({rows.data.floats() + head * channels, inner,
                         b + b_offset(table_, inner, n, head * channels, 0), n,
                         maps + head * tokens * n, n, tokens, n, channels, false});
        if (raw) table_.gemm({raw->bytes(), width, image(), n, maps, n, count, n, width, true});
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
                          maps + row * n,
                          n,
                          32,
                          n,
                          (last - first + 1) * 2 * channels,
                          false};
        if (raw)
            table_.gemm_pair(placed, {raw->bytes() + a_offset(table_, width, row, 0), width,
                                      image(), width, maps + row * n, n, 32, n, width, false});
        else
            table_.gemm(placed);
    }
}

void Sweep::receive(const Sent& sent, const void* residual, const Norm& norm, int64_t tokens,
                    int64_t slot, bool for_looks, Buffer& to) {
    const int64_t n = tile_size, padded = model_.padded(heads * tokens);
    table_.softmax_over_tokens(maps_.floats(), tokens, weights_.bytes(), padded);
    const void* weights = table_.bf16 ? weights_.bytes() : maps_.bytes();
    const int64_t k = table_.bf16 ? padded : heads * tokens;
    void* as_a = table_.bf16 && for_looks ? as_a_.bytes() : nullptr;
    table_.gemm_residual_layernorm(
        {sent.values.bytes(), padded, weights, b_stride(table_, padded, n), to.floats(), n, width,
         n, k, false},
        {to.bytes(), residual, norm.scale.data(), norm.shift.data(), as_b_.bytes(), as_a, slot});
    current_ = &to;
}

bool Sweep::weigh(Sight& sight, int64_t valid, int64_t tokens) {
    const int64_t n = tile_size, rows = heads * tokens;
    if (valid < n)
        for (int64_t row = 0; row < rows; ++row)
            std::fill(maps_.floats() + row * n + valid, maps_.floats() + (row + 1) * n,
                      hidden_logit);
    return table_.online_softmax({maps_.floats(), rows, weights_.bytes(), sight.reference.floats(),
                                  sight.sums.floats(), sight.factors.floats()});
}

void Sweep::look_shared(const ConstStateTile& tile, int64_t valid, const Looking& looking,
                        Sight& sight, int64_t tokens) {
    const int64_t n = tile_size, rows = heads * tokens;
    maps(looking.queries, tile.keys, nullptr, tokens);
    float* means = sight.means.floats();
    if (weigh(sight, valid, tokens)) sight.rescale(model_, tokens);
    const void* weights = table_.bf16 ? weights_.bytes() : maps_.bytes();
    // In bfloat16 a block of 16 rows takes the channels of all heads that it holds.
    const int64_t step = table_.bf16 ? 16 : tokens;
    for (int64_t row = 0; row < rows; row += step) {
        const int64_t head = row / tokens, last = std::min(row + step - 1, rows - 1) / tokens;
        const int64_t column = head * channels;
        table_.gemm({static_cast<const std::byte*>(weights) + a_offset(table_, n, row, 0), n,
                     tile.values + b_offset(table_, n, inner, 0, column),
                     b_stride(table_, n, inner), means + row * inner + column, inner, step,
                     (last - head + 1) * channels, n, !sight.empty});
    }
    sight.empty = false;
}

void Sweep::update_first(const ConstStateTile& tile, const Sent& sent, int64_t tokens, int64_t slot,
                         bool for_looks) {
    maps(sent.keys, tile.queries, nullptr, tokens);
    receive(sent, tile.image, model_.layers[0].update.norm, tokens, slot, for_looks, first_);
}

void Sweep::update_second(int64_t tile, const Sent& sent, int64_t tokens, int64_t slot,
                          bool for_looks) {
    const Update& update = model_.layers[1].update;
    maps(sent.keys, update.positions.bytes() + tile * inner * tile_size * model_.element(),
         &sent.queries, tokens);
    receive(sent, first_.bytes(), update.norm, tokens, slot, for_looks, second_);
}

void Sweep::look_raw(const Look& look, int64_t tile, int64_t valid, const Looking& looking,
                     Sight& sight, int64_t tokens, int64_t slot) {
    const int64_t padded = model_.padded(heads * tokens);
    maps(looking.queries, look.positions.bytes() + tile * inner * tile_size * model_.element(),
         &looking.raw, tokens);
    if (weigh(sight, valid, tokens)) {
        gather(sight, tokens);
        sight.rescale(model_, tokens);
    }
    if (first_waiting_ == end_waiting_) first_waiting_ = slot;
    end_waiting_ = slot + 1;
    table_.pack_transposed(table_.bf16 ? weights_.bytes() : maps_.bytes(), padded, slot,
                           turned_.bytes());
}

void Sweep::gather(Sight& sight, int64_t tokens) {
    const int64_t padded = model_.padded(heads * tokens), wide = table_.span * tile_size;
    const int64_t from = first_waiting_ * tile_size,
                  k = (end_waiting_ - first_waiting_) * tile_size;
    first_waiting_ = end_waiting_ = 0;
    if (k == 0) return;
    const std::byte* image = table_.bf16 ? as_a_.bytes() : current_->bytes();
    table_.gemm({image + a_offset(table_, wide, 0, from), wide,
                 turned_.bytes() + b_offset(table_, wide, padded, from, 0),
                 b_stride(table_, wide, padded), sight.means.floats(), padded, width, padded, k,
                 !sight.empty});
    sight.empty = false;
}

}  // namespace fastseg::cpu::sam_decoder
