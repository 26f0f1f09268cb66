#include "cpu/echo_unet/f32_pass.h"

#include <algorithm>

#include "cpu/support/parallel.h"

namespace fastseg::cpu::echo_unet {
namespace {

using nn::Pixels;
using nn::WinogradTiles;

constexpr int64_t points = nn::winograd_points;

constexpr int64_t crowded = 256;  // channels from which on a pixel is padded

constexpr int64_t overhang = 16;  // pixels that a product may read behind the last row

constexpr int64_t most_lines = 4;  // rows of pixels that are multiplied at a time

}  // namespace

FeatureMapF32::FeatureMapF32(int64_t side, int64_t channels)
    : pixel_(channels < crowded ? channels : channels + stride_padding),
      row_((rounded_up(side, nn::winograd_tile) + 2) * pixel_),
      memory_(
          nn::float_buffer((rounded_up(side, nn::winograd_tile) + 2) * row_ + overhang * pixel_)) {}

Pixels FeatureMapF32::pixels() const {
    return {memory_.floats() + row_ + pixel_, row_, pixel_};
}

ForwardPassF32::ForwardPassF32(const ModelF32& model)
    : model_(model), frame_(model.side, model.channels) {
    for (int64_t level = 0; level < levels; ++level) {
        const int64_t side = model.side_of(level), width = model.width_of(level);
        levels_.push_back({{side, 2 * width}, {side, width}});
    }
}

Pixels ForwardPassF32::lower(int64_t level) const {
    return levels_[static_cast<size_t>(level)].both.pixels();
}

Pixels ForwardPassF32::upper(int64_t level) const {
    return lower(level).from_channel(model_.width_of(level));
}

// Groups of rows of pixels: each at most most_lines, and enough for all threads.
int64_t ForwardPassF32::line_groups(int64_t side) const {
    return std::max((side + most_lines - 1) / most_lines,
                    std::min<int64_t>(side, threads_ > 1 ? 2 * threads_ : 1));
}

void ForwardPassF32::run(const float* frame, float* probabilities, int threads) {
    threads_ = team_size(threads, model_.side, 1e9);
    reserve();
    Team team(threads_);
    pass(team, frame, probabilities);
}

// True if there are so few tiles that threads share one block of them.
bool ForwardPassF32::together(const Matrices& layer, int64_t side) const {
    const int64_t across = tiles_across(side);
    return threads_ > 1 && across * across < block_tiles(*model_.table.dense, layer) * threads_;
}

// Scratch for every layer, before threads start.
void ForwardPassF32::reserve() {
    const nn::DenseKernels& kernels = *model_.table.dense;
    if (scratch_.size() < static_cast<size_t>(threads_))
        scratch_.resize(static_cast<size_t>(threads_));
    const auto reserve_for = [&](const Matrices& layer, int64_t level) {
        const int64_t side = model_.side_of(level), tiles = tiles_across(side) * tiles_across(side);
        const bool shared = together(layer, side);
        const int64_t count =
            shared ? tiles : std::min(tiles, block_tiles(*model_.table.dense, layer));
        const int64_t values = TileProducts::values_size(kernels, layer, count);
        const int64_t sums = TileProducts::sums_size(kernels, layer, count);
        if (shared) return shared_.reserve(values, sums);
        for (Scratch& each : scratch_) each.reserve(values, sums);
    };
    int64_t line_sums = 0;
    for (int64_t level = 0; level < levels; ++level) {
        if (level) reserve_for(model_.down[level][0], level);
        reserve_for(model_.down[level][1], level);
        if (level == levels - 1) break;
        for (const Matrices& layer : model_.merge[level]) reserve_for(layer, level);
        const int64_t columns = std::max(model_.up[level].padded(), model_.head.padded());
        line_sums = std::max(
            line_sums, most_lines * rounded_up(model_.side_of(level), kernels.rows) * columns);
    }
    for (Scratch& each : scratch_) each.reserve(0, line_sums);
}

void ForwardPassF32::pass(Team& team, const float* frame, float* probabilities) {
    first_layer(team, frame);
    for (int64_t level = 0; level < levels; ++level) {
        const Pixels inner = levels_[static_cast<size_t>(level)].inner.pixels();
        const int64_t side = model_.side_of(level);
        if (level) {
            pool(team, level);
            convolve(team, model_.down[level][0], lower(level), inner, side);
        }
        convolve(team, model_.down[level][1], inner, upper(level), side);
    }
    for (int64_t level = levels - 2; level >= 0; --level) {
        const Pixels inner = levels_[static_cast<size_t>(level)].inner.pixels();
        const int64_t side = model_.side_of(level);
        upsample(team, level);
        convolve(team, model_.merge[level][0], lower(level), inner, side);
        convolve(team, model_.merge[level][1], inner, lower(level), side);
    }
    head(team, probabilities);
}

// The neighbours in a row of the frame lie side by side, so each row of them is one product.
void ForwardPassF32::first_layer(Team& team, const float* frame) {
    const int64_t side = model_.side, channels = model_.channels;
    const Pixels pixels = frame_.pixels(), to = levels_.front().inner.pixels();
    const int64_t groups = line_groups(side);
    team.run(groups, [&](int, int64_t item) {
        for (int64_t y = side * item / groups; y < side * (item + 1) / groups; ++y)
            model_.table.transpose(frame + y * side, channels, side, side * side, pixels.at(y, 0),
                                   channels);
    });
    const Matrices& layer = model_.down[0][0];
    team.run(groups, [&](int thread, int64_t item) {
        const LineSums sums = line_sums(thread, layer, side);
        const int64_t y0 = side * item / groups, y1 = side * (item + 1) / groups;
        for (int64_t dy = 0; dy < 3; ++dy)
            multiply(*model_.table.dense, layer, dy,
                     {pixels.at(y0 + dy - 1, -1), pixels.pixel, pixels.row, side, y1 - y0}, sums,
                     dy > 0);
        for (int64_t y = y0; y < y1; ++y)
            model_.table.conv->add_bias(sums.first + (y - y0) * sums.line, sums.pixel, side,
                                        layer.bias.data(), layer.out, true, to.at(y, 0), to.pixel);
    });
}

LineSums ForwardPassF32::line_sums(int thread, const Matrices& layer, int64_t side) const {
    return {scratch_[static_cast<size_t>(thread)].sums.floats(), layer.padded(),
            rounded_up(side, model_.table.dense->rows) * layer.padded()};
}

// Blocks of tiles, each from windows to results on one thread.
void ForwardPassF32::convolve(Team& team, const Matrices& layer, const Pixels& from,
                              const Pixels& to, int64_t side) {
    if (together(layer, side)) return convolve_together(team, layer, from, to, side);
    const int64_t tiles = tiles_across(side) * tiles_across(side),
                  block = block_tiles(*model_.table.dense, layer);
    const int64_t blocks = rounded_up((tiles + block - 1) / block, threads_);
    team.run(blocks, [&](int thread, int64_t item) {
        const int64_t first = tiles * item / blocks, count = tiles * (item + 1) / blocks - first;
        const TileProducts products(*model_.table.dense, scratch_[static_cast<size_t>(thread)],
                                    layer, side, first, count);
        model_.table.conv->winograd_input(from, products.values);
        for (int64_t point = 0; point < points; ++point) products.multiply(point, 0, layer.panels);
        model_.table.conv->winograd_output(products.sums, layer.bias.data(), to, side);
    });
}

// One block of all tiles, whose points are shared.
void ForwardPassF32::convolve_together(Team& team, const Matrices& layer, const Pixels& from,
                                       const Pixels& to, int64_t side) {
    const int64_t tiles = tiles_across(side) * tiles_across(side);
    const TileProducts products(*model_.table.dense, shared_, layer, side, 0, tiles);
    const auto tile_of = [](WinogradTiles all, int64_t index) {
        all.values += index * all.tile;
        all.first = index;
        all.count = 1;
        return all;
    };
    team.run(tiles, [&](int, int64_t item) {
        model_.table.conv->winograd_input(from, tile_of(products.values, item));
    });
    const int64_t parts = std::min<int64_t>(layer.panels, (threads_ + 7) / 8);
    team.run(points * parts, [&](int, int64_t item) {
        const int64_t part = item % parts;
        products.multiply(item / parts, layer.panels * part / parts,
                          layer.panels * (part + 1) / parts);
    });
    team.run(tiles, [&](int, int64_t item) {
        model_.table.conv->winograd_output(tile_of(products.sums, item), layer.bias.data(), to,
                                           side);
    });
}

// The input of a level from the result of the finer one.
void ForwardPassF32::pool(Team& team, int64_t level) {
    const Pixels from = upper(level - 1), to = lower(level);
    team.run(model_.side_of(level), [&](int, int64_t y) {
        model_.table.conv->max_pool({from.at(2 * y, 0), from.row, from.pixel},
                                    model_.side_of(level), model_.width_of(level - 1), to.at(y, 0),
                                    to.pixel);
    });
}

// What the decoder reads of the level below: each of its pixels becomes 2 x 2.
void ForwardPassF32::upsample(Team& team, int64_t level) {
    const Matrices& layer = model_.up[level];
    const Pixels from = level + 1 == levels - 1 ? upper(level + 1) : lower(level + 1);
    const Pixels to = lower(level);
    const int64_t side = model_.side_of(level + 1), groups = line_groups(side);
    team.run(4 * groups, [&](int thread, int64_t item) {
        const LineSums sums = line_sums(thread, layer, side);
        const int64_t part = item % 4, group = item / 4;
        const int64_t y0 = side * group / groups, y1 = side * (group + 1) / groups;
        multiply(*model_.table.dense, layer, part,
                 {from.at(y0, 0), from.pixel, from.row, side, y1 - y0}, sums, false);
        for (int64_t y = y0; y < y1; ++y)
            model_.table.conv->add_bias(sums.first + (y - y0) * sums.line, sums.pixel, side,
                                        layer.bias.data(), layer.out, false,
                                        to.at(2 * y + part / 2, part % 2), 2 * to.pixel);
    });
}

void ForwardPassF32::head(Team& team, float* probabilities) {
    const Matrices& layer = model_.head;
    const Pixels from = lower(0);
    const int64_t side = model_.side, groups = line_groups(side);
    team.run(groups, [&](int thread, int64_t item) {
        const LineSums sums = line_sums(thread, layer, side);
        const int64_t y0 = side * item / groups, y1 = side * (item + 1) / groups;
        multiply(*model_.table.dense, layer, 0,
                 {from.at(y0, 0), from.pixel, from.row, side, y1 - y0}, sums, false);
        for (int64_t y = y0; y < y1; ++y) {
            float* to = probabilities + y * side;
            model_.table.transpose(sums.first + (y - y0) * sums.line, side, layer.out, sums.pixel,
                                   to, side * side);
            for (int64_t each = 0; each < layer.out; ++each)
                model_.table.conv->sigmoid(to + each * side * side, side,
                                           layer.bias[static_cast<size_t>(each)]);
        }
    });
}

namespace {

class NetworkF32 : public Network {
  public:
    NetworkF32(const nn::Weights& weights, const Sizes& sizes, const nn::KernelTable& table)
        : model_(weights, sizes, table) {}

    std::unique_ptr<ForwardPass> make_pass() const override {
        return std::make_unique<ForwardPassF32>(model_);
    }

  private:
    ModelF32 model_;
};

}  // namespace

std::unique_ptr<Network> open_f32(const nn::Weights& weights, const Sizes& sizes,
                                  const nn::KernelTable& table) {
    return std::make_unique<NetworkF32>(weights, sizes, table);
}

}  // namespace fastseg::cpu::echo_unet
