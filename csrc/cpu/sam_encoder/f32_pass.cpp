// The forward pass in float32. Between two attentions each thread takes some tokens through all
// products and norms, so that only queries, keys, values and the residual are written to memory.
#include <atomic>
#include <memory>

#include "cpu/sam_encoder/dense_attention.h"
#include "cpu/sam_encoder/packed_linear.h"
#include "cpu/sam_encoder/passes.h"
#include "cpu/support/parallel.h"

namespace fastseg::cpu::sam_encoder {
namespace {

constexpr int64_t most_rows = 144;        // a block of their channels fits the second-level cache
constexpr int64_t few_rows = 32;          // for which it hardly pays to stream a matrix by
constexpr int64_t hidden_channels = 768;  // of the feed-forward block at a time
constexpr int64_t few_tokens = 16;        // are hardly worth a thread

struct TokenRange {
    int64_t first, count;
};

// The parts of all tokens that a thread takes at a time, smaller ones at the end: then all threads
// finish at about the same time.
std::vector<TokenRange> token_ranges(int64_t tokens, int64_t block, int threads) {
    const int64_t most = most_rows / block * block, least = few_rows / block * block;
    std::vector<TokenRange> found;
    for (int64_t first = 0; first < tokens; first += found.back().count) {
        const int64_t fair = (tokens - first) / (2 * threads) / block * block;
        found.push_back({first, std::min(std::clamp(fair, least, most), tokens - first)});
    }
    return found;
}

// Some rows of tokens on their way through products: a thread's scratch.
class TokenRows {
  public:
    explicit TokenRows(const Model& model)
        : model_(model),
          kernels_(*model.table.dense),
          input_(most_rows, std::max(model.width, 9 * out_width)),
          hidden_(most_rows, hidden_channels),
          sums_(kernels_, most_rows, std::max(model.width, hidden_channels)),
          more_sums_(kernels_, most_rows, model.width),
          row_(nn::float_buffer(std::max(model.width, hidden_channels))) {}

    const RowBlocks& input() const { return input_; }

    // x [rows, width] += input * linear
    void add(const Linear& linear, int64_t rows, float* x) const {
        multiply(kernels_, input_, rows, whole(linear), sums_, false);
        add_sums(sums_, linear, rows, x);
    }

    void normalise(const Norm& norm, int64_t rows, const float* x) const {
        for (int64_t r = 0; r < rows; ++r)
            kernels_.layernorm(x + r * model_.width, model_.width, norm.scale.data(),
                               norm.shift.data(), input_.at(r), input_.step());
    }

    // x += the feed-forward block of x, a part of its hidden channels after the other.
    void feed_forward(const Layer& layer, int64_t rows, float* x) const {
        normalise(layer.norm2, rows, x);
        for (int64_t first = 0; first < layer.lin1.out; first += hidden_channels) {
            const int64_t count = std::min(hidden_channels, layer.lin1.out - first);
            const float* bias = layer.lin1.bias.data() + first;
            multiply(kernels_, input_, rows, outputs_of(layer.lin1, first, count), sums_, false);
            for (int64_t r = 0; r < rows; ++r)
                kernels_.bias_gelu(row(sums_, r, count), bias, count, hidden_.at(r),
                                   hidden_.step());
            const LinearPart part{layer.lin2, first / k_block, (count + k_block - 1) / k_block, 0,
                                  layer.lin2.out};
            multiply(kernels_, hidden_, rows, part, more_sums_, first > 0);
        }
        add_sums(more_sums_, layer.lin2, rows, x);
    }

    // Queries, keys and values of x.
    void project(const Layer& layer, int64_t first_token, int64_t rows, const float* x,
                 const DenseAttention& attention) const {
        using Take = void (DenseAttention::*)(const Layer&, const DenseAttention::Projected&) const;
        constexpr Take takes[] = {&DenseAttention::take_queries, &DenseAttention::take_keys,
                                  &DenseAttention::take_values};
        const int64_t width = model_.width;
        normalise(layer.norm1, rows, x);
        for (int64_t each = 0; each < 3; ++each) {
            const float* bias = layer.qkv.bias.data() + each * width;
            multiply(kernels_, input_, rows, outputs_of(layer.qkv, each * width, width), sums_,
                     false);
            for (int64_t r = 0; r < rows; ++r)
                (attention.*takes[each])(layer, {first_token + r, row(sums_, r, width), bias});
        }
    }

    // input * linear without a bias, normalised, to rows of out_width channels.
    void to_neck(const Linear& linear, const Norm& norm, int64_t rows, float* to) const {
        multiply(kernels_, input_, rows, whole(linear), sums_, false);
        for (int64_t r = 0; r < rows; ++r)
            kernels_.layernorm(row(sums_, r, out_width), out_width, norm.scale.data(),
                               norm.shift.data(), to + r * out_width, k_block);
    }

    // input, of tokens from `first` on, to their sub-pixels of `to` [32, 4 * grid, 4 * grid].
    void enlarge(const Enlargement& by, int64_t first, int64_t rows, bool add, float* to) const {
        const int64_t channels = by.norm.scale.size();
        const std::vector<float> no_bias(by.norm.scale.size());
        float* values = row_.floats();
        for (int64_t part = 0; part < 4; ++part) {
            multiply(kernels_, input_, rows, outputs_of(by.first, part * channels, channels), sums_,
                     false);
            for (int64_t r = 0; r < rows; ++r) {
                sums_.row(r, channels, values);
                for (int64_t c = 0; c < channels; ++c)
                    values[c] += by.first.bias[static_cast<size_t>(c)];
                kernels_.layernorm(values, channels, by.norm.scale.data(), by.norm.shift.data(),
                                   hidden_.at(r), hidden_.step());
                kernels_.bias_gelu(hidden_.at(r), no_bias.data(), channels, hidden_.at(r),
                                   hidden_.step());
            }
            multiply(kernels_, hidden_, rows, whole(by.second), sums_, false);
            for (int64_t r = 0; r < rows; ++r)
                write_subpixels(row(sums_, r, by.second.out), by.second, first + r, part, add, to);
        }
    }

  private:
    // The four finest sub-pixels [4, 32] of a part of a token.
    void write_subpixels(const float* from, const Linear& linear, int64_t token, int64_t part,
                         bool add, float* to) const {
        const int64_t grid = model_.grid, side = 4 * grid;
        for (int64_t finer = 0; finer < 4; ++finer, from += feature_channels) {
            const int64_t y = 4 * (token / grid) + part / 2 * 2 + finer / 2;
            const int64_t x = 4 * (token % grid) + part % 2 * 2 + finer % 2;
            for (int64_t c = 0; c < feature_channels; ++c) {
                float& at = to[(c * side + y) * side + x];
                at = (add ? at : 0.0f) + from[c] + linear.bias[static_cast<size_t>(c)];
            }
        }
    }

    const float* row(const PanelSums& sums, int64_t r, int64_t columns) const {
        sums.row(r, columns, row_.floats());
        return row_.floats();
    }

    void add_sums(const PanelSums& sums, const Linear& linear, int64_t rows, float* x) const {
        for (int64_t r = 0; r < rows; ++r, x += model_.width) {
            const float* added = row(sums, r, model_.width);
            for (int64_t c = 0; c < model_.width; ++c)
                x[c] += added[c] + linear.bias[static_cast<size_t>(c)];
        }
    }

    const Model& model_;
    const nn::DenseKernels& kernels_;
    const RowBlocks input_, hidden_;
    const PanelSums sums_, more_sums_;
    const Buffer row_;
};

// The buffers of the forward pass of one image, and its steps.
class ForwardPass {
  public:
    ForwardPass(const Model& model, int threads)
        : model_(model),
          threads_(threads),
          ranges_(token_ranges(model.tokens(), model.table.dense->rows, threads)),
          x_(nn::float_buffer(model.tokens() * model.width)),
          attended_(nn::float_buffer(model.tokens() * model.width)),
          attention_(model) {
        for (int thread = 0; thread < threads; ++thread)
            scratch_.push_back(std::make_unique<TokenRows>(model));
    }

    void run(const float* image, float* embedding, float* features) const {
        const auto layers = static_cast<int64_t>(model_.layers.size());
        for (int64_t index = 0; index <= layers; ++index) {
            const Layer* before = index > 0 ? &layer(index - 1) : nullptr;
            const Layer* next = index < layers ? &layer(index) : nullptr;
            if (next && next->windowed) attention_.fill_padding(*next, threads_);
            each_row_block([&](const TokenRows& tokens, int64_t first, int64_t count) {
                float* x = x_.floats() + first * model_.width;
                if (before)
                    finish(*before, tokens, first, count);
                else
                    embed(image, tokens, first, count);
                if (index == model_.features.layer + 1 && before) {
                    take(tokens, x_, first, count);
                    tokens.enlarge(model_.features.of_tokens, first, count, false, features);
                }
                if (next) tokens.project(*next, first, count, x, attention_);
            });
            if (next) attention_.attend(*next, attended_.floats(), threads_);
        }
        neck(embedding, features);
    }

  private:
    const Layer& layer(int64_t index) const { return model_.layers[static_cast<size_t>(index)]; }

    // Patches of pixels to tokens, which start as their position embeddings.
    void embed(const float* image, const TokenRows& tokens, int64_t first, int64_t count) const {
        const int64_t grid = model_.grid, side = model_.pixels();
        static_assert(patch * patch == k_block);  // a colour of a patch
        for (int64_t r = 0; r < count; ++r) {
            const int64_t y = (first + r) / grid, x = (first + r) % grid;
            for (int64_t row = 0; row < 3 * patch; ++row)
                std::copy_n(
                    image + (row / patch * side + y * patch + row % patch) * side + x * patch,
                    patch, tokens.input().at(r, row / patch) + row % patch * patch);
        }
        float* x = x_.floats() + first * model_.width;
        std::copy_n(model_.positions.data() + first * model_.width, count * model_.width, x);
        tokens.add(model_.embed, count, x);
    }

    // All of a layer behind its attention.
    void finish(const Layer& layer, const TokenRows& tokens, int64_t first, int64_t count) const {
        const int64_t width = model_.width;
        float* x = x_.floats() + first * width;
        take(tokens, attended_, first, count);
        tokens.add(layer.proj, count, x);
        tokens.feed_forward(layer, count, x);
    }

    void neck(float* embedding, float* features) const {
        const int64_t grid = model_.grid, across = grid + 2;
        // A frame of zeros around the image, as the convolution pads it.
        const Buffer map = nn::float_buffer(across * across * out_width);
        const Buffer found = nn::float_buffer(model_.tokens() * out_width);
        float* const rows = found.floats();
        each_row_block([&](const TokenRows& tokens, int64_t first, int64_t count) {
            take(tokens, x_, first, count);
            tokens.to_neck(model_.neck1, model_.neck_norm1, count, rows + first * out_width);
            for (int64_t t = first; t < first + count; ++t)
                std::copy_n(rows + t * out_width, out_width,
                            map.floats() + ((t / grid + 1) * across + t % grid + 1) * out_width);
        });
        static_assert(out_width == k_block);  // a neighbour
        each_row_block([&](const TokenRows& tokens, int64_t first, int64_t count) {
            for (int64_t r = 0; r < count; ++r)
                for (int64_t tap = 0; tap < 9; ++tap) {
                    const int64_t y = (first + r) / grid + tap / 3,
                                  x = (first + r) % grid + tap % 3;
                    std::copy_n(map.floats() + (y * across + x) * out_width, out_width,
                                tokens.input().at(r, tap));
                }
            tokens.to_neck(model_.neck2, model_.neck_norm2, count, rows + first * out_width);
            model_.table.transpose(rows + first * out_width, count, out_width, out_width,
                                   embedding + first, model_.tokens());
            if (model_.features.layer < 0) return;
            for (int64_t r = 0; r < count; ++r)
                tokens.input().take(r, rows + (first + r) * out_width, out_width);
            tokens.enlarge(model_.features.of_embedding, first, count, true, features);
        });
    }

    void take(const TokenRows& tokens, const Buffer& from, int64_t first, int64_t count) const {
        for (int64_t r = 0; r < count; ++r)
            tokens.input().take(r, from.floats() + (first + r) * model_.width, model_.width);
    }

    // Call `body(scratch, first token, tokens)` for all tokens.
    template <class Body>
    void each_row_block(const Body& body) const {
        std::atomic<size_t> next{0};
        parallel_for(threads_, std::ssize(ranges_), [&]() -> std::function<void(int64_t)> {
            const TokenRows& scratch = *scratch_[next++];
            return [&](int64_t index) {
                const TokenRange& range = ranges_[static_cast<size_t>(index)];
                body(scratch, range.first, range.count);
            };
        });
    }

    const Model& model_;
    const int threads_;
    const std::vector<TokenRange> ranges_;
    std::vector<std::unique_ptr<TokenRows>> scratch_;  // one for each thread
    const Buffer x_;                                   // [tokens, width] the residual
    const Buffer attended_;                            // [tokens, width]
    const DenseAttention attention_;
};

}  // namespace

void embed_f32(const Model& model, const float* image, float* embedding, float* features,
               int threads) {
    const int team = team_size(threads, model.tokens() / few_tokens, 1e9);
    ForwardPass(model, team).run(image, embedding, features);
}

}  // namespace fastseg::cpu::sam_encoder
