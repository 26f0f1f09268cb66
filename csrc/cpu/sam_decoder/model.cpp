#include "cpu/sam_decoder/model.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>
#include <utility>

#include "cpu/nn/weight_reader.h"

namespace fastseg::cpu::sam_decoder {
namespace {

// Reads the weights of the decoder's parts.
class Reader : private WeightReader {
  public:
    Reader(const Weights& weights, const KernelTable& table)
        : WeightReader(weights), table_(table) {}

    using WeightReader::scalar;
    using WeightReader::values;

    Linear linear(const std::string& name, int64_t in, int64_t out, float scale = 1.0f) const {
        Linear made{in, out, float_buffer((out + panel - 1) / panel * panel * in),
                    values(name + ".bias", {out})};
        const float* weight = data(name + ".weight", {out, in});
        for (float& bias : made.bias) bias *= scale;
        for (int64_t o = 0; o < out; ++o)
            for (int64_t i = 0; i < in; ++i)
                made.panels.floats()[(o / panel * in + i) * panel + o % panel] =
                    scale * weight[o * in + i];
        return made;
    }

    Norm norm(const std::string& name, int64_t count) const {
        return {values(name + ".weight", {count}), values(name + ".bias", {count})};
    }

    SelfAttention self_attention(const std::string& name) const {
        const float scale = 1.0f / std::sqrt(static_cast<float>(width / heads));
        return {linear(name + ".q_proj", width, width, scale),
                linear(name + ".k_proj", width, width), linear(name + ".v_proj", width, width),
                linear(name + ".out_proj", width, width)};
    }

    TokenToImageAttention token_to_image(const std::string& name) const {
        TokenToImageAttention made{linear(name + ".q_proj", width, inner, 0.25f),
                                   linear(name + ".out_proj", inner, width),
                                   matrix(name + ".k_proj"),
                                   float_buffer(width * inner),
                                   values(name + ".v_proj.bias", {inner}),
                                   {}};
        const float* value = data(name + ".v_proj.weight", {inner, width});
        for (int64_t o = 0; o < inner; ++o)
            for (int64_t c = 0; c < width; ++c)
                made.values.floats()[(o / channels * width + c) * channels + o % channels] =
                    value[o * width + c];
        return made;
    }

    ImageToTokenAttention image_to_token(const std::string& name,
                                         const std::string& norm_name) const {
        ImageToTokenAttention made{linear(name + ".k_proj", width, inner, 0.25f),
                                   linear(name + ".v_proj", width, inner),
                                   matrix(name + ".q_proj"),
                                   values(name + ".q_proj.bias", {inner}),
                                   float_buffer(inner * width),
                                   values(name + ".out_proj.bias", {width}),
                                   norm(norm_name, width),
                                   {}};
        table_.transpose(data(name + ".out_proj.weight", {width, inner}), width, inner, inner,
                         made.out.floats(), width);
        return made;
    }

    Head read_head(const std::string& name, int64_t out) const {
        return {linear(name + ".layers.0", width, width), linear(name + ".layers.1", width, width),
                linear(name + ".layers.2", width, out)};
    }

    // Rows of 256, one after another; zeros for an empty name.
    std::vector<float> embeddings(const std::vector<std::string>& names) const {
        std::vector<float> rows;
        for (const std::string& name : names) {
            const std::vector<float> one =
                name.empty() ? std::vector<float>(width) : values(name, {1, width});
            rows.insert(rows.end(), one.begin(), one.end());
        }
        return rows;
    }

    MaskPrompt mask_prompt(const std::string& name) const {
        return {values(name + "0.weight", {4, 1, 2, 2}),
                values(name + "0.bias", {4}),
                values(name + "3.weight", {mask_channels, 4, 2, 2}),
                values(name + "3.bias", {mask_channels}),
                values(name + "6.weight", {width, mask_channels, 1, 1}),
                values(name + "6.bias", {width}),
                norm(name + "1", 4),
                norm(name + "4", mask_channels)};
    }

    HqWeights hq(const std::string& decoder, const std::vector<float>& canvas_bias) const {
        const std::string name = decoder + "embedding_maskfeature.";
        constexpr int64_t hidden_size = 2 * vector_size, taps = 9;
        HqWeights made{read_head(decoder + "hf_mlp", vector_size),
                       float_buffer(taps * hidden_size * vector_size),
                       values(name + "0.bias", {hidden_size}),
                       norm(name + "1", hidden_size),
                       std::vector<float>(vector_size * taps * hidden_size),
                       values(name + "3.bias", {vector_size}),
                       std::vector<float>(4 * vector_size, 1.0f),
                       {}};
        for (int part = 0; part < 4; ++part)
            made.canvas_shift.insert(made.canvas_shift.end(), canvas_bias.begin(),
                                     canvas_bias.end());
        const float* first = data(name + "0.weight", {hidden_size, vector_size, 3, 3});
        const float* second = data(name + "3.weight", {vector_size, hidden_size, 3, 3});
        for (int64_t wide = 0; wide < hidden_size; ++wide)
            for (int64_t narrow = 0; narrow < vector_size; ++narrow)
                for (int64_t tap = 0; tap < taps; ++tap) {
                    made.first.floats()[(tap * hidden_size + wide) * vector_size + narrow] =
                        first[(wide * vector_size + narrow) * taps + tap];
                    const int64_t to = (narrow * taps + tap) * hidden_size + wide;
                    made.second[static_cast<size_t>(to)] =
                        second[(narrow * hidden_size + wide) * taps + tap];
                }
        return made;
    }

    // A transposed convolution without overlap: rows are the sub-pixels' channels.
    Buffer upscaling(const std::string& name, int64_t in, int64_t out) const {
        const float* weight = data(name + ".weight", {in, out, 2, 2});
        std::vector<float> rows(static_cast<size_t>(4 * out * in));
        for (int64_t i = 0; i < in; ++i)
            for (int64_t o = 0; o < out; ++o)
                for (int64_t part = 0; part < 4; ++part)
                    rows[static_cast<size_t>((part * out + o) * in + i)] =
                        weight[(i * out + o) * 4 + part];
        Buffer packed(4 * out * in * (table_.bf16 ? 2 : 4));
        table_.pack_a(rows.data(), packed.bytes(), 4 * out, in);
        return packed;
    }

  private:
    Buffer matrix(const std::string& name) const {
        Buffer copy = float_buffer(inner * width);
        std::memcpy(copy.bytes(), data(name + ".weight", {inner, width}),
                    static_cast<size_t>(inner * width) * sizeof(float));
        return copy;
    }

    const KernelTable& table_;
};

// The positions of the image tokens, encoded as those of points: tiles of [256, tile].
Buffer encode_positions(const Model& model) {
    Buffer encoded = float_buffer(model.tiles() * width * tile_size);
    for (int64_t token = 0; token < model.image_tokens(); ++token) {
        const float step = static_cast<float>(model.grid);
        const float x = (static_cast<float>(token % model.grid) + 0.5f) / step;
        const float y = (static_cast<float>(token / model.grid) + 0.5f) / step;
        float* to = encoded.floats() + token / tile_size * width * tile_size + token % tile_size;
        encode_position(model, x, y, to, tile_size);
    }
    return encoded;
}

// Project the positions: tiles of [128, tile] in format b.
Buffer project_positions(const Model& model, const Buffer& weight, const float* bias) {
    const KernelTable& table = model.table;
    Buffer found(model.tiles() * inner * tile_size * model.element());
    Buffer floats = float_buffer(inner * tile_size);
    for (int64_t tile = 0; tile < model.tiles(); ++tile) {
        table.gemm_f32({weight.floats(), width, model.positions.floats() + tile * width * tile_size,
                        tile_size, floats.floats(), tile_size, inner, tile_size, width, false});
        if (bias)
            for (int64_t row = 0; row < inner; ++row)
                for (int64_t n = 0; n < tile_size; ++n)
                    floats.floats()[row * tile_size + n] += bias[row];
        table.pack_b(floats.floats(), found.bytes() + tile * inner * tile_size * model.element(),
                     inner, tile_size);
    }
    return found;
}

// The bias of four parts.
std::vector<float> repeated(const std::vector<float>& bias) {
    std::vector<float> four;
    for (int part = 0; part < 4; ++part) four.insert(four.end(), bias.begin(), bias.end());
    return four;
}

}  // namespace

void encode_position(const Model& model, float x, float y, float* to, int64_t stride) {
    const float* fourier = model.fourier.data();
    for (int64_t c = 0; c < inner; ++c) {
        const float projected = (2 * x - 1) * fourier[c] + (2 * y - 1) * fourier[inner + c];
        const float angle = 2 * std::numbers::pi_v<float> * projected;
        to[c * stride] = static_cast<float>(std::sin(static_cast<double>(angle)));
        to[(inner + c) * stride] = static_cast<float>(std::cos(static_cast<double>(angle)));
    }
}

Model::Model(const Weights& weights, int64_t grid, int64_t side, const KernelTable& table)
    : table(table), grid(grid), side(side) {
    const Reader reader(weights, table);
    const std::string prompt = "prompt_encoder.", decoder = "mask_decoder.";
    epsilon = reader.scalar(decoder + "transformer.epsilon", 1e-5);
    fourier = reader.values(prompt + "pe_layer.positional_encoding_gaussian_matrix", {2, inner});
    const std::string object_token = "obj_score_token.weight", hq_token = "hf_token.weight";
    const std::string padding = "invalid_points.weight";
    kind = weights.contains(decoder + object_token) ? Kind::sam2
           : weights.contains(decoder + hq_token)   ? Kind::sam_hq
           : weights.contains(prompt + padding)     ? Kind::efficient_sam
                                                    : Kind::sam;
    if (kind == Kind::efficient_sam) {
        label_embeddings =
            reader.embeddings({prompt + padding, "", prompt + "point_embeddings.weight",
                               prompt + "bbox_top_left_embeddings.weight",
                               prompt + "bbox_bottom_right_embeddings.weight"});
        no_mask.assign(width, 0.0f);
    } else {
        const std::string points = prompt + "point_embeddings.";
        label_embeddings =
            reader.embeddings({prompt + "not_a_point_embed.weight", points + "0.weight",
                               points + "1.weight", points + "2.weight", points + "3.weight"});
        no_mask = reader.values(prompt + "no_mask_embed.weight", {1, width});
    }
    const auto add_tokens = [&](const std::string& name, int64_t count) {
        const std::vector<float> tokens = reader.values(decoder + name, {count, width});
        fixed_tokens.insert(fixed_tokens.end(), tokens.begin(), tokens.end());
    };
    add_tokens("iou_token.weight", 1);
    add_tokens("mask_tokens.weight", slots);
    // Attention knows no order of tokens, so this one stands where it is dropped most easily.
    if (kind == Kind::sam2) add_tokens(object_token, 1);
    if (kind == Kind::sam_hq) add_tokens(hq_token, 1);
    positions = encode_positions(*this);

    for (int index = 0; index < 2; ++index) {
        const std::string name = decoder + "transformer.layers." + std::to_string(index);
        layers[index] = {
            reader.self_attention(name + ".self_attn"),
            reader.norm(name + ".norm1", width),
            reader.norm(name + ".norm2", width),
            reader.norm(name + ".norm3", width),
            reader.token_to_image(name + ".cross_attn_token_to_image"),
            reader.linear(name + ".mlp.lin1", width, hidden),
            reader.linear(name + ".mlp.lin2", hidden, width),
            reader.image_to_token(name + ".cross_attn_image_to_token", name + ".norm4")};
    }
    final_attention = reader.token_to_image(decoder + "transformer.final_attn_token_to_image");
    final_norm = reader.norm(decoder + "transformer.norm_final_attn", width);
    for (TokenToImageAttention* token_to_image : {&layers[1].token_to_image, &final_attention})
        token_to_image->positions = project_positions(*this, token_to_image->keys, nullptr);
    ImageToTokenAttention& image_to_token = layers[1].image_to_token;
    image_to_token.positions =
        project_positions(*this, image_to_token.queries, image_to_token.query_bias.data());

    iou = reader.read_head(decoder + "iou_prediction_head", slots);
    for (int slot = 0; slot < slots; ++slot)
        masks[slot] = reader.read_head(
            decoder + "output_hypernetworks_mlps." + std::to_string(slot), vector_size);
    const std::string up = decoder + "output_upscaling.";
    head = {reader.upscaling(up + "0", width, width / 4),
            reader.upscaling(up + "3", width / 4, vector_size),
            repeated(reader.values(up + "0.bias", {width / 4})),
            reader.values(up + "3.bias", {vector_size}), reader.norm(up + "1", width / 4)};
    if (kind != Kind::efficient_sam) mask_prompt = reader.mask_prompt(prompt + "mask_downscaling.");
    if (kind == Kind::sam_hq) hq = reader.hq(decoder, head.second_bias);
    if (!table.bf16) low_rank = LowRankWeights(*this);
    for (Linear* linear : linears()) {
        const int64_t columns = (linear->out + panel - 1) / panel * panel;
        Buffer packed = float_buffer(columns * linear->in);
        table.pack_weights(linear->panels.floats(), packed.bytes(), linear->in, linear->out);
        linear->panels = std::move(packed);
    }
}

std::vector<int64_t> Model::map_sizes() const {
    const int64_t embedding = width * image_tokens();
    switch (kind) {
        case Kind::sam2:
            return {embedding, middle_size * image_tokens(), fine_size * image_tokens()};
        case Kind::sam_hq:
            return {embedding, vector_size * area()};
        default:
            return {embedding};
    }
}

std::vector<Linear*> Model::linears() {
    std::vector<Linear*> all{&final_attention.query, &final_attention.out};
    for (Layer& layer : layers)
        for (Linear* linear :
             {&layer.attention.query, &layer.attention.key, &layer.attention.value,
              &layer.attention.out, &layer.token_to_image.query, &layer.token_to_image.out,
              &layer.mlp1, &layer.mlp2, &layer.image_to_token.key, &layer.image_to_token.value})
            all.push_back(linear);
    std::vector<Head*> read{&iou, &masks[0], &masks[1], &masks[2], &masks[3]};
    if (kind == Kind::sam_hq) read.push_back(&hq.vector);
    for (Head* one : read)
        for (Linear* linear : {&one->first, &one->second, &one->last}) all.push_back(linear);
    return all;
}

}  // namespace fastseg::cpu::sam_decoder
