// An image on the device to a network's input, by the very integers of the CPU's kernel.
//
// Four launches: the weights of both axes, the first pass into bytes, the second pass together with
// normalising and padding. Neighbouring threads take neighbouring columns, so bytes that they share
// come from the cache and what they write is contiguous.
#pragma once

#include <stdexcept>
#include <type_traits>

#include "common/pillow_filter.h"
#include "device/block.h"
#include "device/fp16.h"
#include "device/frame_check.h"
#include "device_kernels.h"

namespace fastseg::device {

constexpr int channels = 3;

// The weights of one axis in device memory.
struct DeviceTriangle {
    TriangleAxis axis;
    int64_t widest;
    int32_t* weights;  // [outputs, widest], and behind them first and count of every output

    FASTSEG_HOST_DEVICE int32_t* spans() const { return weights + axis.outputs * widest; }
    int64_t bytes() const { return (axis.outputs * (widest + 2)) * int64_t{sizeof(int32_t)}; }
};

struct FillTriangle {
    static constexpr int threads = 128;
    using Shared = Nothing;
    DeviceTriangle triangle;

    FASTSEG_HOST_DEVICE void operator()(Block<threads> block, Shared&) const {
        block.each(triangle.axis.outputs, [&](int64_t output) {
            const TriangleSpan span = triangle_weights(triangle.axis, output,
                                                       triangle.weights + output * triangle.widest);
            triangle.spans()[2 * output] = static_cast<int32_t>(span.first);
            triangle.spans()[2 * output + 1] = static_cast<int32_t>(span.count);
        });
    }
};

// One output pixel of one pass: `pixel` is its line's first, `step` leads to the next along it.
FASTSEG_HOST_DEVICE inline void resample(const uint8_t* line, int64_t step,
                                         const DeviceTriangle& triangle, int64_t output,
                                         uint8_t* out) {
    const int32_t first = triangle.spans()[2 * output], count = triangle.spans()[2 * output + 1];
    const int32_t* weights = triangle.weights + output * triangle.widest;
    const uint8_t* pixel = line + first * step;
    int32_t sums[channels] = {TriangleAxis::rounding, TriangleAxis::rounding,
                              TriangleAxis::rounding};
    for (int32_t i = 0; i < count; ++i, pixel += step) {
        for (int channel = 0; channel < channels; ++channel) {
            sums[channel] += pixel[channel] * weights[i];
        }
    }
    for (int channel = 0; channel < channels; ++channel)
        out[channel] = triangle_byte(sums[channel]);
}

// The first pass. // out [rows, width, 3]
struct FirstPass {
    static constexpr int threads = 128;
    using Shared = Nothing;
    const uint8_t* part;
    int64_t row_bytes;
    DeviceTriangle triangle;
    bool vertical;
    Size out_size;
    uint8_t* out;

    FASTSEG_HOST_DEVICE void operator()(Block<threads> block, Shared&) const {
        const int64_t y = block.y;
        block.each(out_size.width, [&](int64_t x) {
            uint8_t* pixel = out + (y * out_size.width + x) * channels;
            if (vertical) {
                resample(part + x * channels, row_bytes, triangle, y, pixel);
            } else {
                resample(part + y * row_bytes, channels, triangle, x, pixel);
            }
        });
    }
};

// The second pass, normalised and padded with zeros. // out [3, side, side]
template <class Number>
struct SecondPass {
    static constexpr int threads = 128;
    using Shared = Nothing;
    const uint8_t* intermediate;
    int64_t intermediate_width;
    DeviceTriangle triangle;
    bool vertical;
    Size filled;
    int64_t side;
    Normalisation normalisation;
    Number* out;

    FASTSEG_HOST_DEVICE void operator()(Block<threads> block, Shared&) const {
        const int64_t y = block.y;
        block.each(side, [&](int64_t x) {
            const bool inside = y < filled.height && x < filled.width;
            uint8_t bytes[channels];
            if (inside && vertical) {
                resample(intermediate + x * channels, intermediate_width * channels, triangle, y,
                         bytes);
            } else if (inside) {
                resample(intermediate + y * intermediate_width * channels, channels, triangle, x,
                         bytes);
            }
            for (int channel = 0; channel < channels; ++channel) {
                const float value =
                    inside ? (static_cast<float>(bytes[channel]) - normalisation.mean[channel]) /
                                 normalisation.deviation[channel]
                           : 0.0f;
                store(value, out + (channel * side + y) * side + x);
            }
        });
    }
};

// The division of the scratch memory.
struct PreprocessPlan {
    bool vertical_first;
    Size intermediate;  // after the first pass
    DeviceTriangle first, second;
    uint8_t* bytes;
    int64_t total;

    PreprocessPlan(Frame frame, void* workspace) {
        const Size part = frame.size(), into = frame.resized;
        vertical_first = vertical_pass_first(part.height - into.height, part.width - into.width);
        intermediate =
            vertical_first ? Size{into.height, part.width} : Size{part.height, into.width};
        const TriangleAxis down{part.height, into.height}, across{part.width, into.width};
        first = {vertical_first ? down : across, 0, static_cast<int32_t*>(workspace)};
        first.widest = first.axis.widest();
        second = {vertical_first ? across : down, 0, nullptr};
        second.widest = second.axis.widest();
        char* address = static_cast<char*>(workspace) + first.bytes();
        second.weights = reinterpret_cast<int32_t*>(address);
        bytes = reinterpret_cast<uint8_t*>(address + second.bytes());
        total = first.bytes() + second.bytes() + intermediate.area() * channels;
    }
};

inline int64_t preprocess_workspace(Frame frame) {
    check_frame(frame);
    return PreprocessPlan(frame, nullptr).total;
}

template <class Launcher>
void preprocess(Launcher launcher, Image image, Frame frame, Normalisation normalisation,
                Numbers out, void* workspace) {
    check_frame(frame);
    if (image.size.height != frame.image.height || image.size.width != frame.image.width) {
        throw std::invalid_argument("the frame is for an image of another size");
    }
    const PreprocessPlan plan(frame, workspace);
    const int64_t row_bytes = image.size.width * channels, side = frame.side;
    const uint8_t* part = image.data + frame.y0 * row_bytes + frame.x0 * channels;
    for (const DeviceTriangle& triangle : {plan.first, plan.second}) {
        launcher.launch(FillTriangle{triangle},
                        {blocks_for(triangle.axis.outputs, FillTriangle::threads)});
    }
    launcher.launch(
        FirstPass{part, row_bytes, plan.first, plan.vertical_first, plan.intermediate, plan.bytes},
        {blocks_for(plan.intermediate.width, FirstPass::threads), plan.intermediate.height});
    const auto finish = [&](auto* numbers) {
        using Number = std::remove_pointer_t<decltype(numbers)>;
        const SecondPass<Number> pass{
            plan.bytes, plan.intermediate.width, plan.second, !plan.vertical_first, frame.resized,
            side,       normalisation,           numbers};
        launcher.launch(pass, {blocks_for(side, SecondPass<Number>::threads), side});
    };
    if (out.fp16) {
        finish(static_cast<Fp16*>(out.data));
    } else {
        finish(static_cast<float*>(out.data));
    }
}

}  // namespace fastseg::device
