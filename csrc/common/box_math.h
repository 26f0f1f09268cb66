// Comparisons of boxes, written once for every processor.
#pragma once

#include <cstdint>

#include "common/host_device.h"

namespace fastseg {

struct FloatBox {
    float x0, y0, x1, y1;

    FASTSEG_HOST_DEVICE float area() const { return (x1 - x0) * (y1 - y0); }
};

// std::max and std::min, with what these make of a NaN.
template <class T>
FASTSEG_HOST_DEVICE T greater_of(T a, T b) {
    return a < b ? b : a;
}

template <class T>
FASTSEG_HOST_DEVICE T lesser_of(T a, T b) {
    return b < a ? b : a;
}

// Intersection over union with torchvision's arithmetic; a NaN where both boxes are empty.
FASTSEG_HOST_DEVICE inline float box_overlap(FloatBox a, float area_a, FloatBox b, float area_b) {
    const float width = greater_of(0.0f, lesser_of(a.x1, b.x1) - greater_of(a.x0, b.x0));
    const float height = greater_of(0.0f, lesser_of(a.y1, b.y1) - greater_of(a.y0, b.y0));
    const float shared = width * height;
    return shared / (area_a + area_b - shared);
}

// True if score `a` comes before score `b`; a NaN is the greatest, as torch sorts it.
FASTSEG_HOST_DEVICE inline bool scores_higher(float a, float b) {
    if (b != b) return false;
    return a != a || a > b;
}

// True if an edge of a box ends at the crop's edge and not at the image's.
FASTSEG_HOST_DEVICE inline bool edge_is_cut(int64_t edge, int64_t crop, int64_t image,
                                            double tolerance) {
    const auto near = [&](int64_t other) {
        const int64_t distance = edge < other ? other - edge : edge - other;
        return static_cast<double>(distance) <= tolerance;
    };
    return near(crop) && !near(image);
}

}  // namespace fastseg
