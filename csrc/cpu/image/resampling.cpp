#include "cpu/image/resampling.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "cpu/support/multiversion.h"
#include "cpu/support/parallel.h"

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

// Keys 1981, equations for |distance| up to 1 and up to 2.
double cubic(double distance) {
    constexpr double a = -0.75;
    const double x = std::abs(distance);
    if (x <= 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
    return ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a;
}

// A filter for rows of pixels with several channels: every value of the result for itself, tap by
// tap, which vectors can do side by side.
struct FlatFilter {
    int64_t taps, outputs;        // values
    std::vector<int32_t> inputs;  // [taps, outputs]
    std::vector<float> weights;   // [taps, outputs]

    FlatFilter(const Filter& filter, int64_t channels)
        : taps(filter.taps), outputs(filter.outputs() * channels) {
        for (int64_t tap = 0; tap < taps; ++tap)
            for (int64_t x = 0; x < filter.outputs(); ++x)
                for (int64_t channel = 0; channel < channels; ++channel) {
                    inputs.push_back(
                        static_cast<int32_t>(filter.input(x)[tap] * channels + channel));
                    weights.push_back(filter.weight(x)[tap]);
                }
    }
};

FASTSEG_MULTIVERSION
void add_tap(const float* __restrict sums, const int32_t* __restrict inputs,
             const float* __restrict weights, int64_t count, float* __restrict out) {
    for (int64_t i = 0; i < count; ++i) out[i] += weights[i] * sums[inputs[i]];
}

FASTSEG_MULTIVERSION
void round_row(const float* values, int64_t count, uint8_t* out) {
    for (int64_t i = 0; i < count; ++i) {
        const float kept = std::min(std::max(values[i] + 0.5f, 0.0f), 255.0f);
        out[i] = static_cast<uint8_t>(static_cast<int32_t>(kept));
    }
}

// One row of the result from the sums of its column taps, not rounded.
void filter_row(const float* sums, const FlatFilter& filter, float* row) {
    std::fill_n(row, filter.outputs, 0.0f);
    for (int64_t tap = 0; tap < filter.taps; ++tap)
        add_tap(sums, filter.inputs.data() + tap * filter.outputs,
                filter.weights.data() + tap * filter.outputs, filter.outputs, row);
}

}  // namespace

Filter area_filter(int64_t inputs, int64_t outputs) {
    // Counted in parts of an input that is `outputs` long: an output is `inputs` long.
    const int64_t most = inputs % outputs == 0 ? inputs / outputs : inputs / outputs + 2;
    Filter filter{most, {}, {}};
    for (int64_t output = 0; output < outputs; ++output) {
        const int64_t begin = output * inputs, end = begin + inputs;
        for (int64_t tap = 0; tap < most; ++tap) {
            const int64_t input = begin / outputs + tap;
            const int64_t left = std::max(begin, input * outputs);
            const int64_t right = std::min(end, (input + 1) * outputs);
            const int64_t covered = std::max<int64_t>(0, right - left);
            filter.inputs.push_back(std::min(input, inputs - 1));
            filter.weights.push_back(
                static_cast<float>(static_cast<double>(covered) / static_cast<double>(inputs)));
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
        for (int64_t tap = 0; tap < taps; ++tap) {
            const int64_t input = static_cast<int64_t>(left) + tap - 1;
            const double distance = centre - left - static_cast<double>(tap - 1);
            filter.inputs.push_back(std::clamp<int64_t>(input, 0, inputs - 1));
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
    const FlatFilter across(columns, input.channels);
    parallel_for(team_size(threads, rows.outputs(), work), rows.outputs(), [&] {
        return [&, sums = std::vector<float>(static_cast<size_t>(length)),
                row = std::vector<float>(static_cast<size_t>(across.outputs))](int64_t y) mutable {
            std::fill(sums.begin(), sums.end(), 0.0f);
            for (int64_t tap = 0; tap < rows.taps; ++tap) {
                const float weight = rows.weight(y)[tap];
                if (weight == 0.0f) continue;
                add_row(input.row(rows.input(y)[tap]), weight, length, sums.data());
            }
            if constexpr (std::is_same_v<T, float>) {
                filter_row(sums.data(), across, result.row(y));
            } else {
                filter_row(sums.data(), across, row.data());
                round_row(row.data(), across.outputs, result.row(y));
            }
        };
    });
    return result;
}

template Samples<uint8_t> resample(const Samples<uint8_t>&, const Filter&, const Filter&, int);
template Samples<float> resample(const Samples<float>&, const Filter&, const Filter&, int);

}  // namespace fastseg::cpu
