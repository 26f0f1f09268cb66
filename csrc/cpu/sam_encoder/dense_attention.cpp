#include "cpu/sam_encoder/dense_attention.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "cpu/support/parallel.h"

namespace fastseg::cpu::sam_encoder {
namespace {

constexpr int64_t most_keys = 256;       // their logits fill half of the first-level cache
constexpr int64_t most_columns = 32;     // of a panel, in any table
constexpr int64_t queries_at_once = 64;  // a part of the keys serves them all from the second level

int64_t padded_to(int64_t size, int64_t step) {
    return (size + step - 1) / step * step;
}

}  // namespace

// The attention of some panels of queries of a square of a head, with a thread's scratch.
class DenseAttention::Worker {
  public:
    Worker(const DenseAttention& attention, const Layer& layer, float* to)
        : all_(attention),
          model_(attention.model_),
          kernels_(attention.kernels_),
          layer_(layer),
          squares_(attention.squares(layer)),
          to_(to),
          columns_(kernels_.columns),
          tokens_(squares_.span * squares_.span),
          terms_(nn::float_buffer((2 * squares_.span + kernels_.rows) * columns_)),
          logits_(nn::float_buffer((most_keys + kernels_.rows) * columns_)),
          panels_(static_cast<size_t>(panels_at_once(attention))) {
        for (Panel& panel : panels_) {
            panel.along = nn::float_buffer(squares_.span * columns_);
            panel.across = nn::float_buffer(squares_.span * columns_);
            panel.weighted_values = nn::float_buffer(all_.value_rows_ * columns_);
            panel.running_max = nn::float_buffer(columns_);
            panel.sums = nn::float_buffer(columns_);
        }
    }

    static int64_t panels_at_once(const DenseAttention& attention) {
        return std::max<int64_t>(1, queries_at_once / attention.kernels_.columns);
    }

    // Work items are groups of panels of squares of heads.
    static int64_t groups(const DenseAttention& attention, const TokenSquares& s) {
        const int64_t queries = panels_at_once(attention) * attention.kernels_.columns;
        return (s.span * s.span + queries - 1) / queries;
    }

    void attend_group(int64_t index) {
        const int64_t groups = Worker::groups(all_, squares_), item = index / groups;
        const int64_t square = item % squares_.count, head = item / squares_.count;
        int64_t slot = index % groups * panels_at_once(all_) * columns_, count = 0;
        for (size_t each = 0; each < panels_.size(); ++each, slot += columns_) {
            if (!holds_tokens(square, slot)) continue;
            Panel& panel = panels_[static_cast<size_t>(count++)];
            panel.slot = slot;
            panel.queries =
                all_.queries_.floats() + (item * squares_.room + slot) * model_.channels;
            position_terms(panel, layer_.rows, &DenseAttention::Worker::row_of, panel.along);
            position_terms(panel, layer_.columns, &DenseAttention::Worker::column_of, panel.across);
        }
        for (int64_t first = 0; first < tokens_; first += all_.keys_at_once(squares_))
            for (int64_t each = 0; each < count; ++each)
                attend(panels_[static_cast<size_t>(each)], item, first);
        for (int64_t each = 0; each < count; ++each)
            normalise(panels_[static_cast<size_t>(each)], square, head);
    }

  private:
    struct Panel {
        int64_t slot = 0;  // of its first query in the square
        const float* queries = nullptr;
        Buffer along, across;  // see ColumnSoftmax
        Buffer weighted_values, running_max, sums;
    };

    bool holds_tokens(int64_t square, int64_t slot) const {
        const auto first = squares_.tokens.begin() + square * squares_.room + slot;
        return slot < tokens_ && std::any_of(
                                     first, first + std::min(columns_, tokens_ - slot),
                                     [](int32_t token) { return token >= 0; });
    }

    int64_t row_of(int64_t slot) const { return slot / squares_.span; }
    int64_t column_of(int64_t slot) const { return slot % squares_.span; }

    // What each row (column) of keys adds to the logits of each query.
    void position_terms(const Panel& panel, const Buffer& distances,
                        int64_t (Worker::*place)(int64_t) const, const Buffer& to) const {
        const int64_t span = squares_.span;
        int64_t places[most_columns], lowest = span, highest = 0;
        for (int64_t lane = 0; lane < columns_; ++lane) {
            places[lane] = (this->*place)(std::min(panel.slot + lane, tokens_ - 1));
            lowest = std::min(lowest, places[lane]);
            highest = std::max(highest, places[lane]);
        }
        kernels_.panel_gemm({distances.floats() + lowest * model_.channels, model_.channels,
                             highest - lowest + span, model_.channels, panel.queries,
                             terms_.floats(), columns_, false, nullptr});
        for (int64_t lane = 0; lane < columns_; ++lane) {
            const float* from = terms_.floats() + (places[lane] - lowest) * columns_ + lane;
            for (int64_t key = 0; key < span; ++key)
                to.floats()[key * columns_ + lane] = from[(span - 1 - key) * columns_];
        }
    }

    // Some keys of the square and their values, from `first` on.
    void attend(const Panel& panel, int64_t item, int64_t first) const {
        const int64_t channels = model_.channels, at_once = all_.keys_at_once(squares_);
        const int64_t keys = std::min(at_once, tokens_ - first);
        kernels_.panel_gemm({all_.keys_.floats() + (item * squares_.room + first) * channels,
                             channels, keys, channels, panel.queries, logits_.floats(), columns_,
                             false, nullptr});
        kernels_.column_softmax({logits_.floats(), first, keys, squares_.span,
                                 1.0f / std::sqrt(static_cast<float>(channels)),
                                 panel.along.floats(), panel.across.floats(),
                                 panel.running_max.floats(), panel.sums.floats(),
                                 panel.weighted_values.floats(), channels});
        kernels_.panel_gemm({all_.value_at(squares_, item, first), at_once, channels, keys,
                             logits_.floats(), panel.weighted_values.floats(), columns_, first > 0,
                             nullptr});
    }

    void normalise(const Panel& panel, int64_t square, int64_t head) const {
        const int64_t first = square * squares_.room + panel.slot;
        for (int64_t lane = 0; lane < std::min(columns_, tokens_ - panel.slot); ++lane) {
            const int32_t token = squares_.tokens[static_cast<size_t>(first + lane)];
            if (token < 0) continue;
            const float share = 1.0f / panel.sums.floats()[lane];
            const float* from = panel.weighted_values.floats() + lane;
            float* row = to_ + token * model_.width + head * model_.channels;
            for (int64_t c = 0; c < model_.channels; ++c) row[c] = from[c * columns_] * share;
        }
    }

    const DenseAttention& all_;
    const Model& model_;
    const nn::DenseKernels& kernels_;
    const Layer& layer_;
    const TokenSquares& squares_;
    float* const to_;
    const int64_t columns_, tokens_;
    const Buffer terms_, logits_;
    std::vector<Panel> panels_;
};

DenseAttention::DenseAttention(const Model& model)
    : model_(model),
      kernels_(*model.table.dense),
      value_rows_(padded_to(model.channels, kernels_.rows)) {
    const int64_t slots =
        std::max(model.windows.count * model.windows.room, model.whole.count * model.whole.room);
    queries_ = nn::float_buffer(model.heads * slots * model.channels);
    keys_ = nn::float_buffer((model.heads * slots + kernels_.rows) * model.channels);
    values_ =
        nn::float_buffer(model.heads * std::max(model.windows.count * value_floats(model.windows),
                                                model.whole.count * value_floats(model.whole)));
}

int64_t DenseAttention::keys_at_once(const TokenSquares& s) const {
    return std::min(s.room, most_keys / kernels_.rows * kernels_.rows);
}

int64_t DenseAttention::value_floats(const TokenSquares& s) const {
    return padded_to(s.room, keys_at_once(s)) * value_rows_;
}

float* DenseAttention::value_at(const TokenSquares& s, int64_t square, int64_t slot) const {
    const int64_t at_once = keys_at_once(s);
    return values_.floats() + square * value_floats(s) + slot / at_once * at_once * value_rows_ +
           slot % at_once;
}

void DenseAttention::take_queries(const Layer& layer, const Projected& p) const {
    const TokenSquares& s = squares(layer);
    const int64_t columns = kernels_.columns, channels = model_.channels;
    int64_t slot = s.slots[static_cast<size_t>(p.token)];
    for (int64_t at = 0; at < model_.width; at += channels, slot += s.count * s.room) {
        float* to = queries_.floats() + slot / columns * columns * channels + slot % columns;
        for (int64_t c = 0; c < channels; ++c) to[c * columns] = p.row[at + c] + p.bias[at + c];
    }
}

void DenseAttention::take_keys(const Layer& layer, const Projected& p) const {
    const TokenSquares& s = squares(layer);
    const int64_t channels = model_.channels;
    int64_t slot = s.slots[static_cast<size_t>(p.token)];
    for (int64_t at = 0; at < model_.width; at += channels, slot += s.count * s.room) {
        float* to = keys_.floats() + slot * channels;
        for (int64_t c = 0; c < channels; ++c) to[c] = p.row[at + c] + p.bias[at + c];
    }
}

void DenseAttention::take_values(const Layer& layer, const Projected& p) const {
    const TokenSquares& s = squares(layer);
    const int64_t channels = model_.channels, stride = keys_at_once(s);
    const int64_t slot = s.slots[static_cast<size_t>(p.token)];
    for (int64_t head = 0, at = 0; head < model_.heads; ++head, at += channels) {
        float* to = value_at(s, head * s.count + slot / s.room, slot % s.room);
        for (int64_t c = 0; c < channels; ++c) to[c * stride] = p.row[at + c] + p.bias[at + c];
    }
}

// SAM pads windows with zeros in front of the projection; behind it, that is the bias.
void DenseAttention::fill_padding(const Layer& layer, int threads) const {
    const TokenSquares& s = squares(layer);
    const int64_t channels = model_.channels, stride = keys_at_once(s);
    const auto fill = [&](int64_t head) {
        const float* key = layer.qkv.bias.data() + model_.width + head * channels;
        const float* value = key + model_.width;
        for (int64_t slot = 0; slot < s.count * s.room; ++slot) {
            if (s.tokens[static_cast<size_t>(slot)] != -1) continue;
            std::copy_n(key, channels,
                        keys_.floats() + (head * s.count * s.room + slot) * channels);
            float* to = value_at(s, head * s.count + slot / s.room, slot % s.room);
            for (int64_t c = 0; c < channels; ++c) to[c * stride] = value[c];
        }
    };
    parallel_for(threads, model_.heads, [&]() -> std::function<void(int64_t)> { return fill; });
}

void DenseAttention::attend(const Layer& layer, float* to, int threads) const {
    const TokenSquares& s = squares(layer);
    const int64_t items = model_.heads * s.count * Worker::groups(*this, s);
    parallel_for(threads, items, [&]() -> std::function<void(int64_t)> {
        const auto worker = std::make_shared<Worker>(*this, layer, to);
        return [worker](int64_t index) { worker->attend_group(index); };
    });
}

}  // namespace fastseg::cpu::sam_encoder
