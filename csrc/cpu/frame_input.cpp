// A frame on its way into a network without prompts: a window of known physical size, resampled as
// the networks' authors did it (Ferreira et al., Nat Commun 16, 4070, 2025), then stretched to
// 0..1.
#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "cpu/operations.h"
#include "cpu/resampling.h"
#include "cpu/threads.h"

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

// The channels apart, all stretched alike so that the least value becomes 0 and the greatest 1.
template <class T>
void stretch(const Samples<T>& samples, float* out) {
    const auto [least, greatest] =
        std::minmax_element(samples.values.begin(), samples.values.end());
    const float low = static_cast<float>(*least);
    const float range = static_cast<float>(*greatest) - low;
    const int64_t pixels = samples.size.area();
    if (range == 0.0f) {
        std::fill_n(out, pixels * samples.channels, 0.0f);
        return;
    }
    const T* value = samples.values.data();
    for (int64_t i = 0; i < pixels; ++i) {
        for (int64_t channel = 0; channel < samples.channels; ++channel) {
            out[channel * pixels + i] = (static_cast<float>(*value++) - low) / range;
        }
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
    stretch(resized(std::move(part), side, threads), out);
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
