#include "cpu/sam_encoder/x86/attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>

#include "cpu/nn/tile_config_guard.h"
#include "cpu/sam_encoder/x86/tiled_gemm.h"
#include "cpu/support/parallel.h"

namespace fastseg::cpu::sam_encoder {
namespace {

constexpr int64_t keys_at_once = 512;

Bf16* bf16_of(const Buffer& buffer) {
    return reinterpret_cast<Bf16*>(buffer.bytes());
}

int64_t padded_to(int64_t size, int64_t step) {
    return (size + step - 1) / step * step;
}

// Of every square of every head: queries [room, depth] in format a, keys [depth, room] and values
// [room, channels] in format b.
struct Operands {
    const std::byte *queries, *keys, *values;
};

// The attention of the queries of a window, or of a row of the whole image, with a thread's
// scratch.
class SquareAttention {
  public:
    SquareAttention(const Model& model, const Layer& layer, const TokenSquares& squares,
                    const Operands& operands, Bf16* to)
        : model_(model),
          layer_(layer),
          squares_(squares),
          operands_(operands),
          to_(to),
          rows_(layer.windowed ? padded_to(window * window, 16) : model.grid),
          keys_(layer.windowed ? squares.room : std::min(squares.room, whole_rows(model.grid))),
          steps_(padded_to(2 * squares.span - 1, 32)),
          logits_(nn::float_buffer(rows_ * (keys_ + line))),
          along_(nn::float_buffer(rows_ * steps_)),
          across_(nn::float_buffer(rows_ * steps_)),
          weighted_values_(nn::float_buffer(rows_ * model.channels)),
          weights_(rows_ * keys_ * 2),
          running_max_(static_cast<size_t>(rows_)),
          sums_(static_cast<size_t>(rows_)),
          tile_config_(model.table) {}
    SquareAttention(const SquareAttention&) = delete;
    SquareAttention& operator=(const SquareAttention&) = delete;

    // Items are blocks of queries of squares of heads.
    static int64_t blocks(const Model& model, const Layer& layer) {
        return layer.windowed ? 1 : model.grid;
    }

    void attend_block(int64_t index) {
        const int64_t blocks = SquareAttention::blocks(model_, layer_);
        const int64_t block = index % blocks, item = index / blocks;  // a square of a head
        const int64_t square = item % squares_.count, head = item / squares_.count;
        const nn::KernelTable& table = model_.table;
        const std::byte* queries = operands_.queries + item * squares_.room * model_.depth * 2 +
                                   nn::a_offset(table, model_.depth, block * rows_, 0);
        position_terms(queries, layer_.rows, along_);
        position_terms(queries, layer_.columns, across_);
        std::fill(sums_.begin(), sums_.end(), 0.0f);
        for (int64_t first = 0; first < squares_.room; first += keys_)
            attend(queries, item, block, first);
        normalise(head, square * squares_.room + block * rows_);
    }

  private:
    // Two rows of an even grid of 16, 32, 48, ... are a multiple of 32 keys.
    static int64_t whole_rows(int64_t grid) {
        return std::max<int64_t>(1, keys_at_once / (2 * grid)) * 2 * grid;
    }

    // The relative position terms of each query.
    void position_terms(const std::byte* queries, const Buffer& distances,
                        const Buffer& terms) const {
        model_.table.gemm({queries, model_.depth, distances.bytes(), model_.depth, terms.floats(),
                           steps_, rows_, steps_, model_.depth, false});
    }

    // Some keys of a square and their values, from `first` on.
    void attend(const std::byte* queries, int64_t item, int64_t block, int64_t first) {
        const nn::KernelTable& table = model_.table;
        const int64_t room = squares_.room, depth = model_.depth, channels = model_.channels;
        const int64_t count = std::min(keys_, room - first), stride = keys_ + line;
        const std::byte* keys = operands_.keys + item * room * depth * 2;
        const std::byte* values = operands_.values + item * room * channels * 2;
        table.gemm({queries, depth, keys + nn::b_offset(table, depth, room, 0, first), depth,
                    logits_.floats(), stride, rows_, layer_.windowed ? rows_ : count, depth,
                    false});
        SoftmaxStep s{};
        s.logits = logits_.floats();
        s.rows = rows_;
        s.stride = stride;
        s.keys = layer_.windowed ? window * window : count;
        s.padded = count;
        s.scale = 1.0f / std::sqrt(static_cast<float>(channels));
        s.along = along_.floats() + squares_.span - 1;
        s.across = across_.floats() + squares_.span - 1;
        s.steps = steps_;
        s.first = first == 0;
        s.running_max = running_max_.data();
        s.sums = sums_.data();
        s.weighted_values = weighted_values_.floats();
        s.channels = channels;
        s.weights = bf16_of(weights_);
        if (layer_.windowed) {
            softmax_window(s);
        } else {
            s.along += first / squares_.span - block;
            softmax_rows(s, squares_.span);
        }
        table.gemm({weights_.bytes(), count, values + nn::b_offset(table, room, channels, first, 0),
                    room, weighted_values_.floats(), channels, rows_, channels, count, first > 0});
    }

    void normalise(int64_t head, int64_t slot) const {
        for (int64_t r = 0; r < rows_; ++r) {
            const int32_t token = squares_.tokens[static_cast<size_t>(slot + r)];
            if (token >= 0)
                normalise_row(weighted_values_.floats() + r * model_.channels,
                              sums_[static_cast<size_t>(r)], model_.channels, token,
                              head * model_.channels, model_.width, to_);
        }
    }

    const Model& model_;
    const Layer& layer_;
    const TokenSquares& squares_;
    const Operands operands_;
    Bf16* const to_;
    const int64_t rows_, keys_, steps_;
    const Buffer logits_, along_, across_, weighted_values_, weights_;
    std::vector<float> running_max_, sums_;
    const nn::TileConfigGuard tile_config_;
};

}  // namespace

Attention::Attention(const Model& model) : model_(model) {
    const int64_t slots =
        std::max(model.windows.count * model.windows.room, model.whole.count * model.whole.room);
    queries_ = Buffer(slots * model.heads * model.depth * 2);
    key_rows_ = Buffer(slots * model.heads * model.depth * 2);
    keys_ = Buffer(slots * model.heads * model.depth * 2);
    values_ = Buffer(slots * model.heads * model.channels * 2);
}

void Attention::project(const Layer& layer, const Bf16* tokens, int threads) {
    if (layer.windowed) fill_padding(layer, threads);
    run_tiled(model_, {layer.qkv, tokens, model_.tokens(), threads}, [&](const Part& part) {
        const int64_t operand = part.column / model_.width;
        const int64_t head = part.column % model_.width / model_.channels;
        const Buffer& buffer = operand == 0 ? queries_ : operand == 1 ? key_rows_ : values_;
        const Heads heads{squares(layer), model_.channels, model_.depth, part.row,
                          head,           bf16_of(buffer)};
        if (operand == 0)
            queries_to_a(part.sums, heads);
        else if (operand == 1)
            keys_to_rows(part.sums, heads);
        else
            values_to_b(part.sums, heads);
    });
    pack_keys(layer, threads);
}

// SAM pads windows with zeros in front of the projection; behind it, that is the bias.
void Attention::fill_padding(const Layer& layer, int threads) {
    const TokenSquares& s = squares(layer);
    const int64_t channels = model_.channels, slots = s.count * s.room;
    std::vector<Bf16> bias(static_cast<size_t>(2 * model_.width));
    narrow_row(layer.qkv.bias.data() + model_.width, 2 * model_.width, bias.data());
    parallel_for(threads, model_.heads, [&]() -> std::function<void(int64_t)> {
        return [&](int64_t head) {
            const Bf16* key = bias.data() + head * channels;
            const Bf16* value = key + model_.width;
            for (int64_t slot = 0; slot < slots; ++slot) {
                if (s.tokens[static_cast<size_t>(slot)] != -1) continue;
                std::memcpy(bf16_of(key_rows_) + (head * slots + slot) * model_.depth, key,
                            static_cast<size_t>(channels) * sizeof(Bf16));
                Bf16* to = bf16_of(values_) + head * slots * channels +
                           slot / s.room * s.room * channels + slot % s.room / 2 * 32 + slot % 2;
                for (int64_t c = 0; c < channels; ++c)
                    to[c / 16 * 16 * s.room + c % 16 * 2] = value[c];
            }
        };
    });
}

void Attention::pack_keys(const Layer& layer, int threads) {
    const TokenSquares& s = squares(layer);
    parallel_for(threads, model_.heads * s.count, [&]() -> std::function<void(int64_t)> {
        return [&](int64_t index) {
            const int64_t at = index * s.room * model_.depth;
            keys_to_b(bf16_of(key_rows_) + at, s.room, model_.depth, bf16_of(keys_) + at);
        };
    });
}

void Attention::attend(const Layer& layer, Bf16* to, int threads) const {
    const TokenSquares& s = squares(layer);
    const Operands operands{queries_.bytes(), keys_.bytes(), values_.bytes()};
    const int64_t items = model_.heads * s.count * SquareAttention::blocks(model_, layer);
    parallel_for(threads, items, [&]() -> std::function<void(int64_t)> {
        const auto attention = std::make_shared<SquareAttention>(model_, layer, s, operands, to);
        return [attention](int64_t index) { attention->attend_block(index); };
    });
}

}  // namespace fastseg::cpu::sam_encoder
