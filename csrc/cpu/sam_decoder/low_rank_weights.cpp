#include "cpu/sam_decoder/low_rank_weights.h"

#include <algorithm>
#include <cstring>

#include "cpu/sam_decoder/model.h"
#include "cpu/sam_decoder/shared_maps.h"

namespace fastseg::cpu::sam_decoder {
namespace {

// A matrix [rows, 256], whose rows are scaled channel by channel or centred.
class Rows {
  public:
    Rows(const float* from, int64_t count) : values_(from, from + count * width), count_(count) {}

    Rows times(const std::vector<float>& scale) const {
        Rows made = *this;
        for (size_t at = 0; at < values_.size(); ++at) made.values_[at] *= scale[at % width];
        return made;
    }

    Rows times(float factor) const { return times(std::vector<float>(width, factor)); }

    Rows centred() const {
        Rows made = *this;
        for (int64_t row = 0; row < count_; ++row) {
            float* channels_of_row = made.values_.data() + row * width;
            double sum = 0;
            for (int64_t c = 0; c < width; ++c) sum += channels_of_row[c];
            for (int64_t c = 0; c < width; ++c)
                channels_of_row[c] = static_cast<float>(channels_of_row[c] - sum / width);
        }
        return made;
    }

    // This times the transposed other: [rows, rows of the other].
    Buffer inner_products(const Rows& other) const {
        Buffer made = float_buffer(count_ * other.count_);
        for (int64_t row = 0; row < count_; ++row)
            for (int64_t column = 0; column < other.count_; ++column) {
                const float *x = data() + row * width, *y = other.data() + column * width;
                float sums[16] = {};  // side by side, as one vector
                for (int64_t c = 0; c < width; c += 16)
                    for (int64_t lane = 0; lane < 16; ++lane)
                        sums[lane] += x[c + lane] * y[c + lane];
                double sum = 0;
                for (const float part : sums) sum += part;
                made.floats()[row * other.count_ + column] = static_cast<float>(sum);
            }
        return made;
    }

    const float* data() const { return values_.data(); }
    const std::vector<float>& values() const { return values_; }

    float* append_to(float* to) const { return std::copy(values_.begin(), values_.end(), to); }

  private:
    std::vector<float> values_;
    int64_t count_;
};

// [8, 256, 16] of the heads to [128, 256].
Rows value_rows(const TokenToImageAttention& attention) {
    std::vector<float> rows(static_cast<size_t>(inner * width));
    for (int64_t row = 0; row < inner; ++row)
        for (int64_t c = 0; c < width; ++c)
            rows[static_cast<size_t>(row * width + c)] =
                attention.values.floats()[(row / channels * width + c) * channels + row % channels];
    return {rows.data(), inner};
}

std::vector<float> sum(const std::vector<float>& x, const float* y) {
    std::vector<float> made = x;
    for (size_t at = 0; at < made.size(); ++at) made[at] += y[at];
    return made;
}

}  // namespace

LowRankWeights::LowRankWeights(const Model& model) {
    const ImageToTokenAttention &first = model.layers[0].image_to_token,
                                &second = model.layers[1].image_to_token;
    const TokenToImageAttention &attention = model.layers[1].token_to_image,
                                &last = model.final_attention;
    const std::vector<float>&scale1 = first.norm.scale, &scale2 = second.norm.scale;
    input_shift = first.out_bias;
    middle_shift = Rows(sum(first.norm.shift, second.out_bias.data()).data(), 1).centred().values();
    const Rows middle(middle_shift.data(), 1), shift_b1(first.norm.shift.data(), 1),
        shift_b2(second.norm.shift.data(), 1);
    middle_squares = middle.inner_products(middle).floats()[0];

    const Rows out1 = Rows(first.out.floats(), inner).centred(),
               out2 = Rows(second.out.floats(), inner).centred();
    const Rows scaled1 = out1.times(scale1), middle1 = scaled1.centred();
    const Rows keys(attention.keys.floats(), inner), queries(second.queries.floats(), inner),
        values = value_rows(attention);
    const Rows final_keys = Rows(last.keys.floats(), inner).times(scale2),
               final_values = value_rows(last).times(scale2),
               upscale = Rows(model.head.first.floats(), width).times(scale2);

    shared = float_buffer(shared_rows * width);
    float* to = shared.floats();
    for (const Rows& rows : {out1.times(2.0f), keys.times(scale1), queries.times(scale1),
                             middle1.times(scale1).times(2.0f), out2.times(scale1),
                             final_keys.centred().times(scale1), upscale.centred().times(scale1),
                             values.times(scale1), final_values.centred().times(scale1)})
        to = rows.append_to(to);

    keys1 = keys.inner_products(scaled1);
    values1 = values.inner_products(scaled1);
    queries1 = queries.inner_products(scaled1);
    gram1 = out1.inner_products(out1);
    gram11 = middle1.inner_products(middle1);
    gram12 = out2.inner_products(middle1);
    final_keys1 = final_keys.inner_products(middle1);
    final_values1 = final_values.inner_products(middle1);
    upscale1 = upscale.inner_products(middle1);
    shift1 = middle1.inner_products(middle);
    gram22 = out2.inner_products(out2);
    final_keys2 = final_keys.inner_products(out2);
    final_values2 = final_values.inner_products(out2);
    upscale2 = upscale.inner_products(out2);
    shift2 = out2.inner_products(middle);
    final_key_shift = final_keys.inner_products(middle);
    final_value_shift = final_values.inner_products(middle);
    upscale_shift = upscale.inner_products(middle);
    value_bias = sum(attention.value_bias, values.inner_products(shift_b1).floats());
    final_value_bias = sum(last.value_bias, value_rows(last).inner_products(shift_b2).floats());
    first_bias = sum(model.head.first_bias,
                     Rows(model.head.first.floats(), width).inner_products(shift_b2).floats());

    const int64_t tile_floats = inner * tile_size;
    positions = float_buffer(model.tiles() * tile_floats);
    const Buffer shift = queries.inner_products(shift_b1);
    for (int64_t at = 0; at < model.tiles() * tile_floats; ++at)
        positions.floats()[at] =
            second.positions.floats()[at] + shift.floats()[at / tile_size % inner];
}

}  // namespace fastseg::cpu::sam_decoder
