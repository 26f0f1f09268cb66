#include "cpu/sam_decoder/hq_head.h"

#include <algorithm>
#include <memory>

#include "cpu/support/parallel.h"

namespace fastseg::cpu::sam_decoder {
namespace {

constexpr int64_t taps = 9;
constexpr int64_t hidden_size = 2 * vector_size;
constexpr int64_t rows_of_band = 8;

}  // namespace

HqHead::HqHead(const Model& model)
    : model_(model),
      side_(4 * model.grid),
      stride_(side_ + 2),
      plane_(stride_ * stride_),
      canvas_(float_buffer(vector_size * plane_)),
      taps_(float_buffer(taps * plane_)) {}

void HqHead::keep(int64_t tile, int64_t part, const float* canvas, const float*) {
    const int64_t n = tile_size, grid = model_.grid, first = tile * n;
    const int64_t end = std::min(first + n, model_.image_tokens());
    for (int64_t half = 0; half < 2; ++half) {
        for (int64_t channel = 0; channel < vector_size; ++channel) {
            const float* left = canvas + (2 * half * vector_size + channel) * n;
            const float* right = left + vector_size * n;
            for (int64_t at = first; at < end;) {
                const int64_t y = at / grid, x = at % grid, count = std::min(grid - x, end - at);
                const int64_t row = 4 * y + part / 2 * 2 + half, column = 4 * x + part % 2 * 2;
                float* to = canvas_.floats() + channel * plane_ + (row + 1) * stride_ + column + 1;
                for (int64_t i = 0; i < count; ++i) {
                    to[4 * i] = left[at - first + i];
                    to[4 * i + 1] = right[at - first + i];
                }
                at += count;
            }
        }
    }
}

void HqHead::finish(const std::byte* state, const std::vector<MaskTargets>& targets, int threads) {
    if (targets.empty()) return;
    const KernelTable& table = model_.table;
    const HqWeights& weights = model_.hq;
    const float* features = hq_features(model_, state);
    const float* vector = targets.front().vectors[0] + vector_size;
    const Buffer folded = float_buffer(taps * hidden_size);
    table.gemm_f32({vector, vector_size, weights.second.data(), taps * hidden_size, folded.floats(),
                    taps * hidden_size, 1, taps * hidden_size, vector_size, false});
    float bias = 0;
    for (size_t c = 0; c < vector_size; ++c) bias += vector[c] * weights.second_bias[c];

    const int64_t bands = (side_ + rows_of_band - 1) / rows_of_band;
    const auto for_rows = [&](int64_t floats, const auto& visit) {
        parallel_for(threads, bands, [&, floats] {
            auto scratch = std::make_shared<Buffer>(float_buffer(floats));
            return [&, scratch](int64_t band) {
                const int64_t end = std::min((band + 1) * rows_of_band, side_);
                for (int64_t y = band * rows_of_band; y < end; ++y) visit(y, scratch->floats());
            };
        });
    };
    for_rows((hidden_size + taps) * tile_size, [&](int64_t y, float* scratch) {
        convolve_row(y, folded.floats(), scratch, scratch + hidden_size * tile_size);
    });
    for_rows(side_,
             [&](int64_t y, float* row) { add_row(y, vector, bias, features, targets, row); });
}

void HqHead::convolve_row(int64_t y, const float* folded, float* hidden, float* products) {
    const KernelTable& table = model_.table;
    const HqWeights& weights = model_.hq;
    const int64_t n = tile_size;
    for (int64_t x = 0; x < side_; x += n) {
        for (int64_t tap = 0; tap < taps; ++tap)
            table.gemm_f32({weights.first.floats() + tap * hidden_size * vector_size, vector_size,
                            canvas_.floats() + (y + tap / 3) * stride_ + x + tap % 3, plane_,
                            hidden, n, hidden_size, n, vector_size, tap > 0});
        table.norm_gelu(hidden, weights.first_bias.data(), weights.norm.scale.data(),
                        weights.norm.shift.data(), nullptr);
        table.gemm_f32({folded, hidden_size, hidden, n, products, n, taps, n, hidden_size, false});
        const int64_t count = std::min(n, side_ - x);
        for (int64_t tap = 0; tap < taps; ++tap)
            std::copy_n(products + tap * n, count,
                        taps_.floats() + tap * plane_ + (y + 1) * stride_ + x + 1);
    }
}

void HqHead::add_row(int64_t y, const float* vector, float bias, const float* features,
                     const std::vector<MaskTargets>& targets, float* row) const {
    std::fill(row, row + side_, bias);
    for (int64_t tap = 0; tap < taps; ++tap) {
        const float* from = taps_.floats() + tap * plane_ + (y + tap / 3) * stride_ + tap % 3;
        for (int64_t x = 0; x < side_; ++x) row[x] += from[x];
    }
    for (int64_t channel = 0; channel < vector_size; ++channel) {
        const float* from = features + (channel * side_ + y) * side_;
        for (int64_t x = 0; x < side_; ++x) row[x] += vector[channel] * from[x];
    }
    for (const MaskTargets& some : targets)
        for (int64_t mask = 0; mask < some.masks; ++mask) {
            float* to = some.planes[mask] + y * side_;
            for (int64_t x = 0; x < side_; ++x) to[x] += row[x];
        }
}

}  // namespace fastseg::cpu::sam_decoder
