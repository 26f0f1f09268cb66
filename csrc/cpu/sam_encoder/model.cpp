#include "cpu/sam_encoder/model.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "cpu/nn/weight_reader.h"
#include "cpu/sam_encoder/packed_linear.h"

namespace fastseg::cpu::sam_encoder {
namespace {

constexpr int64_t smallest_chunk = 128;

int64_t rounded_up(int64_t size, int64_t step) {
    return (size + step - 1) / step * step;
}

// Reads the weights of the encoder's parts.
class Reader : private nn::WeightReader {
  public:
    Reader(const Weights& weights, const nn::KernelTable& table)
        : WeightReader(weights), table_(table) {}

    using WeightReader::any;
    using WeightReader::data;
    using WeightReader::values;

    Norm norm(const std::string& name, int64_t count) const {
        return {values(name + ".weight", {count}), values(name + ".bias", {count})};
    }

    Linear linear(const std::string& name, int64_t in, int64_t out) const {
        return {in, out, packed(data(name + ".kernel", {in, out}), in, out),
                values(name + ".bias", {out})};
    }

    // A convolution whose patches are rows of [in * part_height * width]: kernels to columns.
    Linear columns(const std::string& name, const std::vector<int64_t>& shape) const {
        const float* from = data(name + ".weight", shape);
        const int64_t out = shape[0], in = shape[1] * shape[2] * shape[3];
        std::vector<float> kernel(static_cast<size_t>(in * out));
        for (int64_t o = 0; o < out; ++o)
            for (int64_t i = 0; i < in; ++i)
                kernel[static_cast<size_t>(i * out + o)] = from[o * in + i];
        return {in, out, packed(kernel.data(), in, out), {}};
    }

    // A 3 x 3 convolution whose patches are rows of [9, in].
    Linear taps(const std::string& name, int64_t channels) const {
        const float* from = data(name + ".weight", {channels, channels, 3, 3});
        std::vector<float> kernel(static_cast<size_t>(9 * channels * channels));
        for (int64_t o = 0; o < channels; ++o)
            for (int64_t i = 0; i < channels; ++i)
                for (int64_t tap = 0; tap < 9; ++tap)
                    kernel[static_cast<size_t>((tap * channels + i) * channels + o)] =
                        from[(o * channels + i) * 9 + tap];
        return {9 * channels, channels, packed(kernel.data(), 9 * channels, channels), {}};
    }

    Enlargement enlargement(const std::string& name, int64_t in, int64_t hidden) const {
        return {upscaling(name + ".0", in, hidden),
                upscaling(name + ".3", hidden, feature_channels), norm(name + ".1", hidden)};
    }

    // [2 * span - 1, channels], with bfloat16 transposed and reversed, so that the terms of a
    // token's neighbours from first to last are contiguous.
    Buffer distances(const std::string& name, int64_t span, int64_t channels, int64_t depth) const {
        const int64_t count = 2 * span - 1, columns = rounded_up(count, 32);
        const float* from = data(name, {count, channels});
        if (!table_.bf16) {
            Buffer rows = nn::float_buffer((count + table_.dense->rows) * channels);
            std::copy(from, from + count * channels, rows.floats());
            return rows;
        }
        std::vector<float> transposed(static_cast<size_t>(depth * columns));
        for (int64_t i = 0; i < count; ++i)
            for (int64_t c = 0; c < channels; ++c)
                transposed[static_cast<size_t>(c * columns + i)] =
                    from[(count - 1 - i) * channels + c];
        return packed(transposed.data(), depth, columns);
    }

  private:
    // A transposed convolution of stride 2 and kernel 2.
    Linear upscaling(const std::string& name, int64_t in, int64_t out) const {
        const float* from = data(name + ".weight", {in, out, 2, 2});
        std::vector<float> kernel(static_cast<size_t>(4 * in * out));
        for (int64_t i = 0; i < in; ++i)
            for (int64_t o = 0; o < out; ++o)
                for (int64_t part = 0; part < 4; ++part)
                    kernel[static_cast<size_t>((i * 4 + part) * out + o)] =
                        from[(i * out + o) * 4 + part];
        return {in, 4 * out, packed(kernel.data(), in, 4 * out), values(name + ".bias", {out})};
    }

    Buffer packed(const float* from, int64_t rows, int64_t columns) const {
        if (!table_.bf16) return pack_panels(*table_.dense, from, rows, columns);
        Buffer made(rows * columns * 2);
        table_.pack_b(from, made.bytes(), rows, columns);
        return made;
    }

    const nn::KernelTable& table_;
};

TokenSquares squares(int64_t grid, int64_t span) {
    const int64_t across = (grid + span - 1) / span;
    TokenSquares made{span, across * across, rounded_up(span * span, 32), {}, {}};
    made.slots.resize(static_cast<size_t>(grid * grid));
    made.tokens.assign(static_cast<size_t>(made.count * made.room), -2);
    for (int64_t y = 0; y < across * span; ++y)
        for (int64_t x = 0; x < across * span; ++x) {
            const int64_t square = y / span * across + x / span;
            const int64_t slot = square * made.room + y % span * span + x % span;
            const bool inside = y < grid && x < grid;
            const auto token = static_cast<int32_t>(y * grid + x);
            made.tokens[static_cast<size_t>(slot)] = inside ? token : -1;
            if (inside) made.slots[static_cast<size_t>(token)] = static_cast<int32_t>(slot);
        }
    return made;
}

// The smallest part of a row that consists of whole heads, divides it and is worth a product.
int64_t whole_heads(int64_t width, int64_t channels) {
    for (int64_t size = channels; size <= width; size += channels)
        if (width % size == 0 && size % 32 == 0 && (size >= smallest_chunk || size == width))
            return size;
    return 0;
}

}  // namespace

Model::Model(const Weights& weights, const nn::KernelTable& table) : table(table) {
    const Reader read(weights, table);
    const std::vector<int64_t> embedding_shape = read.any("pos_embed").shape;
    if (embedding_shape.size() != 4 || embedding_shape[0] != 1 ||
        embedding_shape[1] != embedding_shape[2])
        throw std::invalid_argument("pos_embed is not (1, grid, grid, width)");
    grid = embedding_shape[1];
    width = embedding_shape[3];
    const std::vector<int64_t> distances = read.any("blocks.0.attn.rel_pos_h").shape;
    channels = distances.size() == 2 ? distances[1] : 0;
    if (grid < 16 || grid > 64 || grid % 16 || width % 32 || channels < 16 || channels % 16 ||
        width % channels)
        throw std::invalid_argument("a grid of " + std::to_string(grid) + " and " +
                                    std::to_string(width) + " channels in heads of " +
                                    std::to_string(channels) + " do not fit the kernel");
    heads = width / channels;
    depth = rounded_up(channels, 32);
    chunk = whole_heads(width, channels);
    if (!chunk) throw std::invalid_argument("heads do not fill blocks of 32 channels");
    windows = squares(grid, window);
    whole = squares(grid, grid);
    embed = read.columns("patch_embed.proj", {width, 3, patch, patch});
    embed.bias = read.values("patch_embed.proj.bias", {width});
    const float* positions_from = read.data("pos_embed", {1, grid, grid, width});
    positions.assign(positions_from, positions_from + grid * grid * width);
    for (int64_t index = 0;; ++index) {
        const std::string name = "blocks." + std::to_string(index);
        if (!weights.contains(name + ".norm1.weight")) break;
        const std::string attention = name + ".attn";
        Layer layer;
        layer.windowed = read.any(attention + ".rel_pos_h").shape[0] == 2 * window - 1;
        const int64_t span = layer.windowed ? window : grid;
        layer.norm1 = read.norm(name + ".norm1", width);
        layer.norm2 = read.norm(name + ".norm2", width);
        layer.qkv = read.linear(attention + ".qkv", width, 3 * width);
        layer.proj = read.linear(attention + ".proj", width, width);
        layer.lin1 = read.linear(name + ".mlp.lin1", width, 4 * width);
        layer.lin2 = read.linear(name + ".mlp.lin2", 4 * width, width);
        layer.rows = read.distances(attention + ".rel_pos_h", span, channels, depth);
        layer.columns = read.distances(attention + ".rel_pos_w", span, channels, depth);
        layers.push_back(std::move(layer));
    }
    neck1 = read.columns("neck.0", {out_width, width, 1, 1});
    neck_norm1 = read.norm("neck.1", out_width);
    neck2 = read.taps("neck.2", out_width);
    neck_norm2 = read.norm("neck.3", out_width);
    const std::string early = "compress_vit_feat";
    if (!weights.contains(early + ".0.weight")) return;
    if (table.bf16) throw std::invalid_argument("features are computed in float32 alone");
    const auto whole_image = [](const Layer& layer) { return !layer.windowed; };
    features = {std::ranges::find_if(layers, whole_image) - layers.begin(),
                read.enlargement(early, width, out_width),
                read.enlargement("embedding_encoder", out_width, out_width / 4)};
}

}  // namespace fastseg::cpu::sam_encoder
