// Separable resampling of a window of a frame, with any number of channels.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels.h"

namespace fastseg::cpu {

// The inputs of every output along one axis: `taps` of them, each with a weight.
struct Filter {
    int64_t taps;
    std::vector<int64_t> inputs;  // [outputs, taps]
    std::vector<float> weights;   // [outputs, taps]

    int64_t outputs() const { return static_cast<int64_t>(weights.size()) / taps; }
    const int64_t* input(int64_t output) const { return inputs.data() + output * taps; }
    const float* weight(int64_t output) const { return weights.data() + output * taps; }
};

// The mean over the part of the inputs that an output covers. So does OpenCV's INTER_AREA, when it
// shrinks both axes and when it enlarges both.
Filter area_filter(int64_t inputs, int64_t outputs);

// Keys' cubic convolution with a = -0.75 around pixel centres, as OpenCV's INTER_CUBIC; beyond the
// border its inputs repeat.
Filter cubic_filter(int64_t inputs, int64_t outputs);

// Pixels of an image, rows one after another.
template <class T>
struct Samples {
    Size size;
    int64_t channels;
    std::vector<T> values;  // [height, width, channels]

    Samples(Size size, int64_t channels)
        : size(size), channels(channels), values(static_cast<size_t>(size.area() * channels)) {}

    int64_t row_length() const { return size.width * channels; }
    T* row(int64_t y) { return values.data() + y * row_length(); }
    const T* row(int64_t y) const { return values.data() + y * row_length(); }
};

// Columns first, then rows, in single precision. Bytes come out rounded to the nearest and
// saturated.
template <class T>
Samples<T> resample(const Samples<T>& input, const Filter& rows, const Filter& columns,
                    int threads);

}  // namespace fastseg::cpu
