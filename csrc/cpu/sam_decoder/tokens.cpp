#include "cpu/sam_decoder/tokens.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>
#include <stdexcept>
#include <vector>

namespace fastseg::cpu::sam_decoder {
namespace {

constexpr int64_t few_weights = 1 << 15;  // are read as fast as others start

// Softmax attention of the tokens of one prompt, one head: rows of 256, 32 channels of them.
void attend_head(const float* query, const float* key, const float* value, int64_t tokens,
                 float* weights, float* out) {
    constexpr int64_t size = width / heads;
    for (int64_t i = 0; i < tokens; ++i) {
        float largest = -INFINITY;
        for (int64_t j = 0; j < tokens; ++j) {
            float sum = 0;
            for (int64_t c = 0; c < size; ++c) sum += query[i * width + c] * key[j * width + c];
            weights[j] = sum;
            largest = std::max(largest, sum);
        }
        float total = 0;
        for (int64_t j = 0; j < tokens; ++j) {
            weights[j] = std::exp(weights[j] - largest);
            total += weights[j];
        }
        float mixed[size] = {};
        for (int64_t j = 0; j < tokens; ++j)
            for (int64_t c = 0; c < size; ++c) mixed[c] += weights[j] * value[j * width + c];
        for (int64_t c = 0; c < size; ++c) out[i * width + c] = mixed[c] / total;
    }
}

void activate(Kind kind, float* x, int64_t count) {
    if (kind == Kind::efficient_sam)
        for (int64_t i = 0; i < count; ++i)
            x[i] = 0.5f * x[i] * (1.0f + std::erf(x[i] * std::numbers::sqrt2_v<float> / 2));
    else
        for (int64_t i = 0; i < count; ++i) x[i] = std::max(x[i], 0.0f);
}

}  // namespace

void normalise(const Norm& norm, double epsilon, float* x, int64_t rows) {
    for (int64_t row = 0; row < rows; ++row, x += width) {
        double sum = 0, squares = 0;
        for (int64_t c = 0; c < width; ++c) sum += x[c];
        const double mean = sum / width;
        for (int64_t c = 0; c < width; ++c) squares += (x[c] - mean) * (x[c] - mean);
        const double scale = 1 / std::sqrt(squares / width + epsilon);
        for (int64_t c = 0; c < width; ++c) {
            const size_t at = static_cast<size_t>(c);
            x[c] = static_cast<float>((x[c] - mean) * scale) * norm.scale[at] + norm.shift[at];
        }
    }
}

Tokens::Tokens(const Model& model, int64_t prompts, int64_t tokens, Team& team)
    : model_(model), team_(team), prompts_(prompts), tokens_(tokens) {
    const int64_t rows = prompts * tokens;
    for (Buffer* buffer : {&state_, &prompt_, &positioned_, &query_, &key_, &value_, &out_})
        *buffer = float_buffer(rows * width);
    wide_ = float_buffer(rows * hidden);
    scratch_ = Buffer(projection_bytes(rows, hidden));
}

void Tokens::embed(const float* points, const int32_t* labels) {
    const int64_t fixed = model_.fixed(), count = tokens_ - fixed;
    const float side = static_cast<float>(model_.side);
    for (int64_t prompt = 0; prompt < prompts_; ++prompt) {
        float* to = prompt_.floats() + prompt * tokens_ * width;
        std::copy(model_.fixed_tokens.begin(), model_.fixed_tokens.end(), to);
        for (int64_t point = 0; point < count; ++point) {
            const int32_t label = labels[prompt * count + point];
            const float* xy = points + (prompt * count + point) * 2;
            float* row = to + (fixed + point) * width;
            std::fill(row, row + width, 0.0f);
            // A pixel's value stands for its centre.
            // EfficientSAM's padding has a position too, that of (-1, -1).
            const bool efficient = model_.kind == Kind::efficient_sam;
            const float x = label < 0 ? -1.0f : xy[0], y = label < 0 ? -1.0f : xy[1];
            if (label >= 0 || efficient)
                encode_position(model_, (x + 0.5f) / side, (y + 0.5f) / side, row, 1);
            const float* label_embedding = model_.label_embeddings.data() + (label + 1) * width;
            for (int64_t c = 0; c < width; ++c) row[c] += label_embedding[c];
        }
    }
    std::memcpy(state_.bytes(), prompt_.bytes(),
                static_cast<size_t>(prompts_ * tokens_ * width) * sizeof(float));
}

const float* Tokens::with_positions() {
    for (int64_t i = 0; i < prompts_ * tokens_ * width; ++i)
        positioned_.floats()[i] = state_.floats()[i] + prompt_.floats()[i];
    return positioned_.floats();
}

void Tokens::apply(const Linear& linear, const float* x, int64_t rows, float* y) {
    const int64_t in = linear.in, out = linear.out, panels = (out + panel - 1) / panel;
    // With bfloat16 each share would split x into its parts anew.
    const bool whole = model_.table.bf16 || in * out < few_weights;
    const int64_t shares = whole ? 1 : std::min<int64_t>(panels, 4 * team_.size());
    team_.run(shares, [&](int, int64_t share) {
        const int64_t first = panels * share / shares * panel;
        const int64_t end = std::min(panels * (share + 1) / shares * panel, out);
        model_.table.project({x, rows, in, linear.panels.bytes() + first * in * 4,
                              linear.bias.data() + first, end - first, y + first, out,
                              scratch_.bytes()});
    });
}

void Tokens::add(const Linear& linear, const float* x, int64_t first, int64_t rows) {
    apply(linear, x, rows, out_.floats());
    float* state = state_.floats() + first * width;
    for (int64_t i = 0; i < rows * width; ++i) state[i] += out_.floats()[i];
}

void Tokens::self_attend(const Layer& layer, bool first) {
    const int64_t rows = prompts_ * tokens_;
    const SelfAttention& attention = layer.attention;
    const bool efficient = model_.kind == Kind::efficient_sam;
    // As trained: neither positions nor, but in EfficientSAM, a residual in the first layer.
    const float* positioned = first ? state_.floats() : with_positions();
    if (efficient && !first) std::copy_n(positioned, rows * width, state_.floats());
    apply(attention.query, positioned, rows, query_.floats());
    apply(attention.key, positioned, rows, key_.floats());
    apply(attention.value, state_.floats(), rows, value_.floats());
    std::vector<float> weights(static_cast<size_t>(tokens_));
    for (int64_t prompt = 0; prompt < prompts_; ++prompt) {
        for (int64_t head = 0; head < heads; ++head) {
            const int64_t at = prompt * tokens_ * width + head * (width / heads);
            attend_head(query_.floats() + at, key_.floats() + at, value_.floats() + at, tokens_,
                        weights.data(), wide_.floats() + at);
        }
    }
    if (first && !efficient) std::fill(state_.floats(), state_.floats() + rows * width, 0.0f);
    add(attention.out, wide_.floats(), 0, rows);
    normalise(layer.norm1, model_.epsilon, state_.floats(), rows);
}

const float* Tokens::project_with_positions(const Linear& linear) {
    apply(linear, with_positions(), prompts_ * tokens_, query_.floats());
    return query_.floats();
}

const float* Tokens::project(const Linear& linear) {
    apply(linear, state_.floats(), prompts_ * tokens_, value_.floats());
    return value_.floats();
}

void Tokens::add_attention(const Layer& layer, const float* attended) {
    const int64_t rows = prompts_ * tokens_;
    add(layer.token_to_image.out, attended, 0, rows);
    normalise(layer.norm2, model_.epsilon, state_.floats(), rows);
    apply(layer.mlp1, state_.floats(), rows, wide_.floats());
    activate(model_.kind, wide_.floats(), rows * hidden);
    add(layer.mlp2, wide_.floats(), 0, rows);
    normalise(layer.norm3, model_.epsilon, state_.floats(), rows);
}

void Tokens::keep_output_tokens() {
    const int64_t kept = model_.outputs() * width;
    for (float* rows : {state_.floats(), prompt_.floats()})
        for (int64_t prompt = 1; prompt < prompts_; ++prompt)
            std::memmove(rows + prompt * kept, rows + prompt * tokens_ * width,
                         static_cast<size_t>(kept) * sizeof(float));
    tokens_ = model_.outputs();
}

void Tokens::add_final_attention(const float* attended, const std::vector<int64_t>& rows) {
    apply(model_.final_attention.out, attended, static_cast<int64_t>(rows.size()), out_.floats());
    const float* from = out_.floats();
    for (const int64_t row : rows) {
        float* state = state_.floats() + row * width;
        for (int64_t c = 0; c < width; ++c) state[c] += *from++;
        normalise(model_.final_norm, model_.epsilon, state, 1);
    }
}

void Tokens::read_ious(const std::vector<int64_t>& prompts, float* ious) {
    read(model_.iou, 0, prompts, ious, slots, slots);
    if (model_.kind != Kind::sam2) return;
    for (const int64_t prompt : prompts)
        for (int64_t slot = 0; slot < slots; ++slot) {
            float& score = ious[prompt * slots + slot];
            score = static_cast<float>(1 / (1 + std::exp(-static_cast<double>(score))));
        }
}

void Tokens::read_vectors(const std::vector<int64_t>& prompts, int64_t slot, float* vectors) {
    const int64_t size = model_.vector();
    read(model_.masks[slot], 1 + slot, prompts, vectors + slot * size, vector_size, slots * size);
}

void Tokens::read_hq_vectors(const std::vector<int64_t>& prompts, float* vectors) {
    const int64_t size = model_.vector();
    read(model_.hq.vector, output_count, prompts, vectors + vector_size, vector_size, slots * size);
    for (const int64_t prompt : prompts) {
        float* first = vectors + prompt * slots * size + vector_size;
        for (int64_t slot = 1; slot < slots; ++slot)
            std::copy_n(first, vector_size, first + slot * size);
    }
}

void Tokens::read(const Head& head, int64_t token, const std::vector<int64_t>& prompts, float* to,
                  int64_t size, int64_t stride) {
    const int64_t count = static_cast<int64_t>(prompts.size());
    float* rows = query_.floats();
    for (const int64_t prompt : prompts) {
        std::memcpy(rows, state_.floats() + (prompt * tokens_ + token) * width,
                    width * sizeof(float));
        rows += width;
    }
    apply(head.first, query_.floats(), count, key_.floats());
    activate(model_.kind, key_.floats(), count * width);
    apply(head.second, key_.floats(), count, value_.floats());
    activate(model_.kind, value_.floats(), count * width);
    apply(head.last, value_.floats(), count, out_.floats());
    const float* from = out_.floats();
    for (const int64_t prompt : prompts) {
        std::memcpy(to + prompt * stride, from, static_cast<size_t>(size) * sizeof(float));
        from += size;
    }
}

}  // namespace fastseg::cpu::sam_decoder
