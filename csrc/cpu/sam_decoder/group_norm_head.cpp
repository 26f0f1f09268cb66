#include "cpu/sam_decoder/group_norm_head.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "cpu/support/parallel.h"

namespace fastseg::cpu::sam_decoder {
namespace {

constexpr int64_t quarter = width / 4;
constexpr double group_epsilon = 1e-5;

}  // namespace

GroupNormHead::GroupNormHead(const Model& model)
    : model_(model),
      rows_(Buffer::unwritten(model.tiles() * width * tile_size * 4)),
      moments_(static_cast<size_t>(model.tiles() * 8)) {}

void GroupNormHead::keep(int64_t tile, int64_t part, const float* rows, const float* bias) {
    const int64_t n = tile_size, at = tile * 4 + part;
    const int64_t valid = std::min(n, model_.image_tokens() - tile * n);
    float* to = rows_.floats() + at * quarter * n;
    double sum = 0, squares = 0;
    for (int64_t channel = 0; channel < quarter; ++channel) {
        for (int64_t i = 0; i < n; ++i) to[channel * n + i] = rows[channel * n + i] + bias[channel];
        for (int64_t i = 0; i < valid; ++i) {
            const double value = to[channel * n + i];
            sum += value;
            squares += value * value;
        }
    }
    moments_[static_cast<size_t>(2 * at)] = sum;
    moments_[static_cast<size_t>(2 * at + 1)] = squares;
}

void GroupNormHead::finish(const std::byte*, const std::vector<MaskTargets>& targets, int threads) {
    std::vector<float> scale(quarter), shift(quarter);
    measure(scale.data(), shift.data());
    parallel_for(threads, model_.tiles(), [&] {
        auto head = std::make_shared<MaskHead>(model_);
        return [&, head](int64_t tile) {
            const float* rows = rows_.floats() + tile * width * tile_size;
            for (const MaskTargets& some : targets)
                head->draw_scaled(rows, tile, some, scale.data(), shift.data());
        };
    });
}

void GroupNormHead::measure(float* scale, float* shift) const {
    double sum = 0, squares = 0;
    for (size_t at = 0; at < moments_.size(); at += 2) {
        sum += moments_[at];
        squares += moments_[at + 1];
    }
    const double count = static_cast<double>(width * model_.image_tokens());
    const double mean = sum / count, variance = squares / count - mean * mean;
    const double factor = 1 / std::sqrt(variance + group_epsilon);
    for (size_t c = 0; c < quarter; ++c) {
        const double weight = model_.head.norm.scale[c] * factor;
        scale[c] = static_cast<float>(weight);
        shift[c] = static_cast<float>(model_.head.norm.shift[c] - mean * weight);
    }
}

}  // namespace fastseg::cpu::sam_decoder
