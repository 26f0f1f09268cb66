#include "cpu/sam_decoder/image_state.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "cpu/sam_decoder/shared_maps.h"

namespace fastseg::cpu::sam_decoder {
namespace {

double gelu(double x) {
    return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
}

// Normalise over the channels of `count` pixels, then GELU; planes are `stride` apart.
void norm_gelu(float* planes, int64_t count, int64_t stride, const Norm& norm) {
    const auto channels_of_norm = static_cast<int64_t>(norm.scale.size());
    const auto all = static_cast<double>(channels_of_norm);
    for (int64_t pixel = 0; pixel < count; ++pixel) {
        double mean = 0, variance = 0;
        for (int64_t c = 0; c < channels_of_norm; ++c) mean += planes[c * stride + pixel];
        mean /= all;
        for (int64_t c = 0; c < channels_of_norm; ++c) {
            const double difference = planes[c * stride + pixel] - mean;
            variance += difference * difference;
        }
        const double scale = 1 / std::sqrt(variance / all + 1e-6);
        for (int64_t c = 0; c < channels_of_norm; ++c) {
            float& value = planes[c * stride + pixel];
            const double normal = (value - mean) * scale;
            const size_t at = static_cast<size_t>(c);
            value = static_cast<float>(gelu(normal * norm.scale[at] + norm.shift[at]));
        }
    }
}

// A row of a convolution of kernel 2 and stride 2: two rows of planes, `stride` apart, to
// [out, side], `to_stride` apart.
void convolve_2x2(const float* planes, int64_t in, int64_t stride, int64_t side,
                  const std::vector<float>& weight, const std::vector<float>& bias, float* to,
                  int64_t to_stride) {
    const int64_t out = static_cast<int64_t>(bias.size());
    for (int64_t o = 0; o < out; ++o) {
        float* row = to + o * to_stride;
        std::fill(row, row + side, bias[static_cast<size_t>(o)]);
        for (int64_t i = 0; i < in; ++i) {
            const float* w = weight.data() + (o * in + i) * 4;
            const float* top = planes + i * stride;
            const float* below = top + 2 * side;
            for (int64_t x = 0; x < side; ++x)
                row[x] += w[0] * top[2 * x] + w[1] * top[2 * x + 1] + w[2] * below[2 * x] +
                          w[3] * below[2 * x + 1];
        }
    }
}

}  // namespace

int64_t state_bytes(const Model& model) {
    const int64_t features = model.kind == Kind::sam_hq ? vector_size * model.area() * 4 : 0;
    return model.tiles() * (state_tile_bytes(model) + shared_tile_floats(model) * 4) + features;
}

const float* hq_features(const Model& model, const std::byte* state) {
    return reinterpret_cast<const float*>(
        state + model.tiles() * (state_tile_bytes(model) + shared_tile_floats(model) * 4));
}

int64_t state_tile_bytes(const Model& model) {
    const int64_t maps = model.kind == Kind::sam2 ? (middle_size + fine_size) * 4 : 0;
    return tile_size * ((width + 3 * inner) * model.element() + maps);
}

namespace {

template <class Byte>
BasicStateTile<Byte> divide_tile(const Model& model, Byte* tile) {
    const int64_t image = tile_size * width * model.element();
    const int64_t projection = tile_size * inner * model.element();
    Byte* keys = tile + image;
    Byte* maps = keys + 3 * projection;
    const bool finer = model.kind == Kind::sam2;
    return {tile,
            keys,
            keys + projection,
            keys + 2 * projection,
            finer ? maps : nullptr,
            finer ? maps + middle_size * tile_size * 4 : nullptr};
}

// Keep the image [256, tile] of a tile, which the first of the scratch floats are, and project it.
void fill_tile(const Model& model, int64_t tile, const StateTile& state, float* floats) {
    const KernelTable& table = model.table;
    const int64_t n = tile_size;
    const float* image = floats;
    float* positioned = floats + width * n;
    float* projected = positioned + width * n;
    float* transposed = projected + inner * n;
    const float* positions = model.positions.floats() + tile * width * n;
    const auto add_positions = [&] {
        for (int64_t i = 0; i < width * n; ++i) positioned[i] = image[i] + positions[i];
    };
    const auto project = [&](const float* weight) {
        table.gemm_f32({weight, width, positioned, n, projected, n, inner, n, width, false});
    };
    const TokenToImageAttention& token_to_image = model.layers[0].token_to_image;
    const ImageToTokenAttention& image_to_token = model.layers[0].image_to_token;
    table.store_residual(image, state.image);
    add_positions();
    project(token_to_image.keys.floats());
    table.pack_b(projected, state.keys, inner, n);
    // Values are needed the other way round: [n, 16] = [n, 256] [256, 16] for every head.
    table.transpose(image, width, n, n, positioned, width);
    for (int64_t head = 0; head < heads; ++head)
        table.gemm_f32({positioned, width, token_to_image.values.floats() + head * width * channels,
                        channels, transposed + head * channels, inner, n, channels, width, false});
    table.pack_b(transposed, state.values, n, inner);
    add_positions();
    project(image_to_token.queries.floats());
    for (int64_t row = 0; row < inner; ++row)
        for (int64_t i = 0; i < n; ++i)
            projected[row * n + i] += image_to_token.query_bias[static_cast<size_t>(row)];
    table.pack_b(projected, state.queries, inner, n);
}

// The parts of `valid` tokens [tokens, 4 parts, ...], x before y, to rows [4 parts, ..., tile], y
// before x.
void copy_parts(const Model& model, const float* from, int64_t valid, int64_t size, std::byte* to) {
    const int64_t n = tile_size, quarter = size / 4;
    auto* rows = reinterpret_cast<float*>(to);
    std::fill(rows, rows + size * n, 0.0f);
    for (int64_t part = 0; part < 4; ++part) {
        const int64_t x_first = part % 2 * 2 + part / 2;
        model.table.transpose(from + x_first * quarter, valid, quarter, size,
                              rows + part * quarter * n, n);
    }
}

}  // namespace

void fill_state_tile(const Model& model, const ImageMaps& maps, int64_t tile, std::byte* to,
                     float* floats) {
    const StateTile state = state_tile(model, to + tile * state_tile_bytes(model));
    const int64_t n = tile_size, first = tile * n;
    const int64_t valid = std::min(n, model.image_tokens() - first);
    for (int64_t c = 0; c < width; ++c) {
        float* row = floats + c * n;
        const float* from = maps[0] + c * model.image_tokens() + first;
        const float no_mask = model.no_mask[static_cast<size_t>(c)];
        for (int64_t i = 0; i < valid; ++i) row[i] = from[i] + no_mask;
        std::fill(row + valid, row + n, 0.0f);
    }
    fill_tile(model, tile, state, floats);
    if (const int64_t shared = shared_tile_floats(model)) {
        auto* first = reinterpret_cast<float*>(to + model.tiles() * state_tile_bytes(model));
        fill_shared_maps(model, floats, first + tile * shared, floats + width * n);
    }
    if (model.kind != Kind::sam2) return;
    copy_parts(model, maps[1] + first * middle_size, valid, middle_size, state.middle);
    copy_parts(model, maps[2] + first * fine_size, valid, fine_size, state.fine);
}

StateTile state_tile(const Model& model, std::byte* tile) {
    return divide_tile(model, tile);
}

ConstStateTile state_tile(const Model& model, const std::byte* tile) {
    return divide_tile(model, tile);
}

void shrink_mask_row(const Model& model, const float* mask, int64_t row, float* shrunk) {
    const MaskPrompt& prompt = model.mask_prompt;
    const int64_t grid = model.grid, side = 2 * grid, stride = 2 * side;
    std::vector<float> halved(static_cast<size_t>(4 * stride));
    for (int64_t half = 0; half < 2; ++half)
        convolve_2x2(mask + (4 * row + 2 * half) * 2 * side, 1, 0, side, prompt.first,
                     prompt.first_bias, halved.data() + half * side, stride);
    norm_gelu(halved.data(), stride, stride, prompt.norm1);
    float* to = shrunk + row * grid;
    convolve_2x2(halved.data(), 4, stride, grid, prompt.second, prompt.second_bias, to,
                 model.image_tokens());
    norm_gelu(to, grid, model.image_tokens(), prompt.norm2);
}

void fill_masked_tile(const Model& model, const ConstStateTile& plain, const float* shrunk,
                      int64_t tile, const StateTile& state, float* floats) {
    const MaskPrompt& prompt = model.mask_prompt;
    const int64_t n = tile_size, first = tile * n;
    const int64_t valid = std::min(n, model.image_tokens() - first);
    model.table.load_residual(plain.image, floats);
    for (int64_t c = 0; c < width; ++c) {
        const size_t at = static_cast<size_t>(c);
        const float shift = prompt.last_bias[at] - model.no_mask[at];
        for (int64_t i = 0; i < valid; ++i) floats[c * n + i] += shift;
    }
    model.table.gemm_f32({prompt.last.data(), mask_channels, shrunk + first, model.image_tokens(),
                          floats, n, width, valid, mask_channels, true});
    fill_tile(model, tile, state, floats);
}

ConstStateTile with_mask(const Model& model, const ConstStateTile& plain, const std::byte* masked) {
    ConstStateTile tile = state_tile(model, masked);
    tile.middle = plain.middle;
    tile.fine = plain.fine;
    return tile;
}

}  // namespace fastseg::cpu::sam_decoder
