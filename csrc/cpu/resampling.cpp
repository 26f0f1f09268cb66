#include "cpu/resampling.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "cpu/multiversion.h"
#include "cpu/threads.h"

namespace fastseg::cpu {
namespace {

FASTSEG_MULTIVERSION
void add_row(const uint8_t* row, float weight, int64_t length, float* sums) {
    for (int64_t x = 0; x < length; ++x) sums[x] += weight * static_cast<float>(row[x]);
}

FASTSEG_MULTIVERSION
void add_row(const float* row, float weight, int64_t length, float* sums) {
    for (int64_t x = 0; x < length; ++x) sums[x] += weight * row[x];
}

template <class T>
T rounded(float value) {
    if constexpr (std::is_same_v<T, float>) {
        return value;
    } else {
        return static_cast<uint8_t>(std::clamp(value + 0.5f, 0.0f, 255.0f));
    }
}

// Keys 1981, equations for |distance| up to 1 and up to 2.
double cubic(double distance) {
    constexpr double a = -0.75;
    const double x = std::abs(distance);
    if (x <= 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
    return ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a;
}

// One row of the result from the sums of its column taps.
template <class T>
void filter_row(const float* sums, int64_t inputs, int64_t channels, const Filter& filter, T* out) {
    for (int64_t x = 0; x < filter.outputs(); ++x) {
        const float* weights = filter.weight(x);
        const int64_t first = filter.first[static_cast<size_t>(x)];
        for (int64_t channel = 0; channel < channels; ++channel) {
            float sum = 0.0f;
            for (int64_t tap = 0; tap < filter.taps; ++tap) {
                const int64_t input = std::clamp<int64_t>(first + tap, 0, inputs - 1);
                sum += weights[tap] * sums[input * channels + channel];
            }
            *out++ = rounded<T>(sum);
        }
    }
}

}  // namespace

Filter area_filter(int64_t inputs, int64_t outputs) {
    // Counted in parts of an input that is `outputs` long: an output is `inputs` long.
    const int64_t taps = (inputs + outputs - 1) / outputs + 1;
    Filter filter{taps, {}, std::vector<float>(static_cast<size_t>(outputs * taps), 0.0f)};
    for (int64_t output = 0; output < outputs; ++output) {
        const int64_t begin = output * inputs, end = begin + inputs;
        const int64_t first = begin / outputs;
        filter.first.push_back(first);
        for (int64_t tap = 0; tap < taps; ++tap) {
            const int64_t left = std::max(begin, (first + tap) * outputs);
            const int64_t right = std::min(end, (first + tap + 1) * outputs);
            if (left >= right) break;
            filter.weights[static_cast<size_t>(output * taps + tap)] =
                static_cast<float>(static_cast<double>(right - left) / static_cast<double>(inputs));
        }
    }
    return filter;
}

Filter cubic_filter(int64_t inputs, int64_t outputs) {
    constexpr int64_t taps = 4;
    Filter filter{taps, {}, {}};
    const double scale = static_cast<double>(inputs) / static_cast<double>(outputs);
    for (int64_t output = 0; output < outputs; ++output) {
        const double centre = (static_cast<double>(output) + 0.5) * scale - 0.5;
        const double left = std::floor(centre);
        filter.first.push_back(static_cast<int64_t>(left) - 1);
        for (int64_t tap = 0; tap < taps; ++tap) {
            const double distance = centre - left - static_cast<double>(tap - 1);
            filter.weights.push_back(static_cast<float>(cubic(distance)));
        }
    }
    return filter;
}

template <class T>
Samples<T> resample(const Samples<T>& input, const Filter& rows, const Filter& columns,
                    int threads) {
    Samples<T> result({rows.outputs(), columns.outputs()}, input.channels);
    const int64_t length = input.row_length();
    const double work = 0.3 * static_cast<double>(rows.outputs() * rows.taps * length) +
                        2.0 * static_cast<double>(result.values.size());
    share(team_size(threads, rows.outputs(), work), rows.outputs(), [&] {
        return
            [&, length, sums = std::vector<float>(static_cast<size_t>(length))](int64_t y) mutable {
                std::fill(sums.begin(), sums.end(), 0.0f);
                for (int64_t tap = 0; tap < rows.taps; ++tap) {
                    const float weight = rows.weight(y)[tap];
                    if (weight == 0.0f) continue;
                    const int64_t row = rows.first[static_cast<size_t>(y)] + tap;
                    add_row(input.row(std::clamp<int64_t>(row, 0, input.size.height - 1)), weight,
                            length, sums.data());
                }
                filter_row(sums.data(), input.size.width, input.channels, columns, result.row(y));
            };
    });
    return result;
}

template Samples<uint8_t> resample(const Samples<uint8_t>&, const Filter&, const Filter&, int);
template Samples<float> resample(const Samples<float>&, const Filter&, const Filter&, int);

}  // namespace fastseg::cpu
