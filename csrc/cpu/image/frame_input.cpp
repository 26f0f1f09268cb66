// The input of a network without prompts: a window of a frame of known physical size, resampled as
// the networks' authors did it (Ferreira et al., Nat Commun 16, 4070, 2025), then stretched to
// 0..1.
#include <algorithm>
#include <array>
#include <cmath>
#include <stdexcept>
#include <utility>

#include "cpu/image/resampling.h"
#include "cpu/support/multiversion.h"
#include "cpu/support/parallel.h"
#include "kernels.h"

namespace fastseg::cpu {
namespace {

// Every window is brought to this many pixels first: 0.05 cm each if it spans 20 cm.
constexpr int64_t middle_side = 400;

// Far below overflow in all that follows.
constexpr float largest_value = 1e30f;

void require_finite(const Pixels<float>& frame) {
    const int64_t count = frame.size.area() * frame.channels;
    const bool usable = std::all_of(frame.data, frame.data + count,
                                    [](float value) { return std::abs(value) <= largest_value; });
    if (!usable) {
        throw std::invalid_argument(
            "a frame must hold finite numbers between -1e30 and 1e30, and holds others");
    }
}

// The window's pixels; those outside the frame are zero.
template <class T>
Samples<T> cut(const Pixels<T>& frame, Window window) {
    Samples<T> part({window.y1 - window.y0, window.x1 - window.x0}, frame.channels);
    const int64_t left = std::max<int64_t>(window.x0, 0);
    const int64_t right = std::min(window.x1, frame.size.width);
    const int64_t top = std::max<int64_t>(window.y0, 0);
    const int64_t bottom = std::min(window.y1, frame.size.height);
    for (int64_t y = top; y < bottom; ++y) {
        const T* row = frame.data + (y * frame.size.width) * frame.channels;
        std::copy(row + left * frame.channels, row + std::max(left, right) * frame.channels,
                  part.row(y - window.y0) + (left - window.x0) * frame.channels);
    }
    return part;
}

template <class T>
bool is_constant(const Samples<T>& part) {
    const auto differs = [&](T value) { return value != part.values.front(); };
    return std::none_of(part.values.begin(), part.values.end(), differs);
}

template <class T>
Samples<T> resized(Samples<T> part, int64_t side, int threads) {
    if (part.size.height == side && part.size.width == side) return part;
    if (part.size.height != middle_side || part.size.width != middle_side) {
        part = resample(part, area_filter(part.size.height, middle_side),
                        area_filter(part.size.width, middle_side), threads);
    }
    if (side == middle_side) return part;
    const Filter cubic = cubic_filter(middle_side, side);
    return resample(part, cubic, cubic, threads);
}

template <class T>
struct Range {
    T least, greatest;
};

FASTSEG_MULTIVERSION
Range<uint8_t> range_of(const uint8_t* values, int64_t count) {
    uint8_t least = 255, greatest = 0;
    for (int64_t i = 0; i < count; ++i) {
        least = std::min(least, values[i]);
        greatest = std::max(greatest, values[i]);
    }
    return {least, greatest};
}

Range<float> range_of(const float* values, int64_t count) {
    const auto [least, greatest] = std::minmax_element(values, values + count);
    return {*least, *greatest};
}

// Maps the least value to 0 and the greatest to 1.
template <class T>
class Stretch;

template <>
class Stretch<float> {
  public:
    explicit Stretch(Range<float> range) : least_(range.least), width_(range.greatest - least_) {}
    float operator()(float value) const { return (value - least_) / width_; }

  private:
    float least_, width_;
};

template <>
class Stretch<uint8_t> {
  public:
    explicit Stretch(Range<uint8_t> range) {
        const Stretch<float> exact(
            {static_cast<float>(range.least), static_cast<float>(range.greatest)});
        for (size_t value = 0; value < table_.size(); ++value) {
            table_[value] = exact(static_cast<float>(value));
        }
    }
    float operator()(uint8_t value) const { return table_[value]; }

  private:
    std::array<float, 256> table_;
};

// The channels apart, all stretched alike.
template <class T>
void write(const Samples<T>& samples, float* out) {
    const int64_t pixels = samples.size.area(), channels = samples.channels;
    const T* values = samples.values.data();
    const Range<T> range = range_of(values, pixels * channels);
    if (range.least == range.greatest) {
        std::fill_n(out, pixels * channels, 0.0f);
        return;
    }
    const Stretch<T> stretched(range);
    for (int64_t channel = 0; channel < channels; ++channel) {
        for (int64_t i = 0; i < pixels; ++i) *out++ = stretched(values[i * channels + channel]);
    }
}

template <class T>
void prepare(const Pixels<T>& frame, Window window, int64_t side, float* out, int threads) {
    Samples<T> part = cut(frame, window);
    if (is_constant(part)) {
        // Rounding in between could make tiny differences, which would be stretched to noise.
        std::fill_n(out, side * side * frame.channels, 0.0f);
        return;
    }
    write(resized(std::move(part), side, threads), out);
}

}  // namespace

void frame_input(FramePixels frame, Window window, int64_t side, float* out, int threads) {
    if (const auto* bytes = std::get_if<Pixels<uint8_t>>(&frame)) {
        prepare(*bytes, window, side, out, threads);
        return;
    }
    const auto& floats = std::get<Pixels<float>>(frame);
    require_finite(floats);
    prepare(floats, window, side, out, threads);
}

}  // namespace fastseg::cpu
