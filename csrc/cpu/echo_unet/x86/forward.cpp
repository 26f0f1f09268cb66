#include "cpu/echo_unet/x86/forward.h"

#include <algorithm>

#include "cpu/nn/tile_config_guard.h"
#include "cpu/support/parallel.h"

namespace fastseg::cpu::echo_unet {
namespace {

// Levels that are computed in bands: the maps between their layers are larger than the second-level
// cache.
constexpr int64_t banded = 2;
constexpr int64_t band_bytes = 300'000;  // of a map of one band

constexpr int64_t few_rows = 2;  // that divide every level but the coarsest

struct Rows {
    int64_t y0, y1;

    // These and `more` on both sides, as far as there are any.
    Rows wider(int64_t more, int64_t height) const {
        return {std::max<int64_t>(y0 - more, 0), std::min(y1 + more, height)};
    }
};

const std::byte* bytes(const Bf16* values) {
    return reinterpret_cast<const std::byte*>(values);
}

// Bytes from a pixel to the values that each step of a layer multiplies.
std::vector<int32_t> offsets(const FeatureMap& map, int64_t neighbours) {
    std::vector<int32_t> found;
    const int64_t steps = steps_across(neighbours, map.channels), before = neighbours / 2;
    for (int64_t dy = 0; dy < neighbours; ++dy)
        for (int64_t step = 0; step < steps; ++step) {
            const int64_t dx = 32 * step / map.channels, channel = 32 * step % map.channels;
            found.push_back(static_cast<int32_t>(
                2 * ((dy - before) * map.row + (dx - before) * map.pixel + channel)));
        }
    return found;
}

// A layer, the maps that it reads, and the description of both for conv_amx.h.
class Step {
  public:
    Step(const Layer& layer, const std::vector<const FeatureMap*>& from, bool relu)
        : convolution{{},
                      static_cast<int64_t>(from.size()),
                      layer.kernel.bytes(),
                      layer.steps * 1024,
                      layer.bias.data(),
                      from.front()->width,
                      relu} {
        for (size_t i = 0; i < from.size(); ++i) {
            offsets_[i] = offsets(*from[i], layer.neighbours);
            convolution.sources[i] = {bytes(from[i]->at(0, 0)), from[i]->row * 2,
                                      from[i]->pixel * 2, offsets_[i].data(),
                                      static_cast<int64_t>(offsets_[i].size())};
        }
    }
    Step(const Step&) = delete;

    Convolution convolution;

  private:
    std::vector<int32_t> offsets_[2];
};

Target target(const FeatureMap& map) {
    return {map.at(0, 0), map.row, map.pixel, map.channels, map.pixel};
}

void convolve_rows(const Layer& layer, const std::vector<const FeatureMap*>& from,
                   const FeatureMap& to, Rows rows) {
    convolve(Step(layer, from, true).convolution, target(to), {rows.y0, rows.y1, 0, layer.columns});
}

}  // namespace

ForwardPassBf16::ForwardPassBf16(const Model& model) : model_(model) {
    for (int64_t level = 0; level < levels; ++level) {
        const int64_t side = model.side_of(level), out = model.width_of(level);
        const int64_t in = level ? out / 2 : frame_channels;
        const bool last = level == levels - 1;
        const int64_t deep = level < banded ? 0 : side;
        levels_.push_back({{side, side, in},
                           {side, side, out},
                           {last ? 0 : deep, side, out},
                           {deep, side, out},
                           {last || !level ? 0 : side, side, out}});
    }
}

// Even, so that a band is whole pixels of the level below.
int64_t ForwardPassBf16::band_rows(int64_t level) const {
    const int64_t side = model_.side_of(level);
    const int64_t fitting = band_bytes / (2 * levels_[static_cast<size_t>(level)].skip.row);
    const int64_t shared = side / threads_;
    return std::clamp<int64_t>(std::min(fitting, shared) / 2 * 2, std::min<int64_t>(side, 8), side);
}

void ForwardPassBf16::run(const float* frame, float* probabilities, int threads) {
    threads_ = team_size(threads, model_.side, 1e9);
    while (bands_.size() < static_cast<size_t>(threads_)) {
        std::vector<Band>& made = bands_.emplace_back();
        for (int64_t level = 0; level < banded; ++level) {
            const int64_t side = model_.side_of(level), out = model_.width_of(level);
            const int64_t most = std::max<int64_t>(8, band_bytes / (2 * side * out)) + 4;
            made.push_back({{most, side, out}, {most, side, out}});
        }
    }
    Team team(threads_);
    const nn::TileConfigGuard tile_config(model_.table);  // for all loops of this thread
    pass(team, frame, probabilities);
}

template <class Body>
void ForwardPassBf16::share(Team& team, int64_t items, const Body& body) {
    team.run(items, [&](int thread, int64_t item) {
        const nn::TileConfigGuard tile_config(model_.table);
        body(bands_[static_cast<size_t>(thread)], item);
    });
}

void ForwardPassBf16::pass(Team& team, const float* frame, float* probabilities) {
    const int64_t side = model_.side;
    const FeatureMap& first = levels_.front().input;
    share(team, side / few_rows, [&](const std::vector<Band>&, int64_t item) {
        frame_to_map(frame, model_.channels, side, first.at(0, 0), first.row, item * few_rows,
                     (item + 1) * few_rows);
    });
    for (int64_t level = 0; level < levels; ++level) encode_level(team, level);
    for (int64_t level = levels - 2; level >= 0; --level) decode_level(team, level, probabilities);
}

void ForwardPassBf16::encode_level(Team& team, int64_t level) {
    Level& here = levels_[static_cast<size_t>(level)];
    const Layer* layers = model_.down[level];
    const int64_t side = model_.side_of(level);
    if (level >= banded) {
        convolve_all(team, layers[0], {&here.input}, here.inner);
        convolve_all(team, layers[1], {&here.inner}, here.skip);
        if (level == levels - 1) return;
        share(team, side / 2,
              [&](const std::vector<Band>&, int64_t item) { pool(level, item, item + 1); });
        return;
    }
    const int64_t height = band_rows(level);
    share(team, (side + height - 1) / height, [&](std::vector<Band>& bands, int64_t item) {
        FeatureMap& inner = bands[static_cast<size_t>(level)].inner;
        const Rows rows = Rows{item * height, item * height + height}.wider(0, side);
        inner.begin_at(rows.y0 - 1);
        inner.clear_outside(rows.y0 - 1, rows.y1 + 1, side);
        convolve_rows(layers[0], {&here.input}, inner, rows.wider(1, side));
        convolve_rows(layers[1], {&inner}, here.skip, rows);
        pool(level, rows.y0 / 2, rows.y1 / 2);
    });
}

void ForwardPassBf16::decode_level(Team& team, int64_t level, float* probabilities) {
    Level& here = levels_[static_cast<size_t>(level)];
    const Layer* layers = model_.merge[level];
    const int64_t side = model_.side_of(level);
    if (level >= banded) {
        const int64_t below = side / 2, parts = std::min(below, parts_wanted());
        share(team, parts, [&](const std::vector<Band>&, int64_t item) {
            upsample(level, here.upsampled, 2 * (below * item / parts),
                     2 * (below * (item + 1) / parts));
        });
        convolve_all(team, layers[0], {&here.upsampled, &here.skip}, here.inner);
        convolve_all(team, layers[1], {&here.inner}, here.output);
        return;
    }
    const int64_t height = band_rows(level);
    share(team, (side + height - 1) / height, [&](std::vector<Band>& bands, int64_t item) {
        auto& [upsampled, inner] = bands[static_cast<size_t>(level)];
        const Rows rows = Rows{item * height, item * height + height}.wider(0, side);
        upsampled.begin_at(rows.y0 - 2);
        upsampled.clear_outside(rows.y0 - 2, rows.y1 + 2, side);
        inner.begin_at(rows.y0 - 1);
        inner.clear_outside(rows.y0 - 1, rows.y1 + 1, side);
        const Rows wider = rows.wider(2, side);
        upsample(level, upsampled, wider.y0, wider.y1);
        convolve_rows(layers[0], {&upsampled, &here.skip}, inner, rows.wider(1, side));
        convolve_rows(layers[1], {&inner}, level ? here.output : upsampled, rows);
        if (level == 0)
            convolve_to_planes(Step(model_.head, {&upsampled}, false).convolution, model_.classes,
                               probabilities, side * side, {rows.y0, rows.y1, 0, 16});
    });
}

// A layer of a coarse level: parts of its pixels and of its channels are shared between threads.
void ForwardPassBf16::convolve_all(Team& team, const Layer& layer, const Maps& from,
                                   const FeatureMap& to) {
    const int64_t pairs = (layer.columns + 31) / 32, across = std::min(pairs, parts_wanted());
    const int64_t down = std::min(to.width, (parts_wanted() + across - 1) / across);
    const Step step(layer, from, true);
    share(team, across * down, [&](const std::vector<Band>&, int64_t item) {
        const int64_t x = item % across, y = item / across;
        convolve(step.convolution, target(to),
                 {to.width * y / down, to.width * (y + 1) / down, 32 * (pairs * x / across),
                  std::min(layer.columns, 32 * (pairs * (x + 1) / across))});
    });
}

// Rows of a level from the level below, the even and the odd ones in turn.
void ForwardPassBf16::upsample(int64_t level, const FeatureMap& to, int64_t y0, int64_t y1) {
    const Level& below = levels_[static_cast<size_t>(level + 1)];
    const FeatureMap& from = level + 1 == levels - 1 ? below.skip : below.output;
    for (int64_t dy = 0; dy < 2; ++dy) {
        const Step step(model_.up[level][dy], {&from}, false);
        const Target rows{to.at(dy, 0), 2 * to.row, 2 * to.pixel, to.channels, to.pixel};
        convolve(step.convolution, rows, {y0 / 2, y1 / 2, 0, 2 * to.channels});
    }
}

void ForwardPassBf16::pool(int64_t level, int64_t y0, int64_t y1) {
    const FeatureMap& from = levels_[static_cast<size_t>(level)].skip;
    const FeatureMap& to = levels_[static_cast<size_t>(level + 1)].input;
    for (int64_t y = y0; y < y1; ++y)
        pool_row(from.at(2 * y, 0), from.row, from.pixel, to.channels, to.width, to.at(y, 0));
}

namespace {

class NetworkBf16 : public Network {
  public:
    NetworkBf16(const nn::Weights& weights, const Sizes& sizes, const nn::KernelTable& table)
        : model_(weights, sizes, table) {}

    std::unique_ptr<ForwardPass> make_pass() const override {
        return std::make_unique<ForwardPassBf16>(model_);
    }

  private:
    Model model_;
};

}  // namespace

std::unique_ptr<Network> open_bf16(const nn::Weights& weights, const Sizes& sizes,
                                   const nn::KernelTable& table) {
    return std::make_unique<NetworkBf16>(weights, sizes, table);
}

}  // namespace fastseg::cpu::echo_unet
