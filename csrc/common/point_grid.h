// The points of a regular grid, written once for every processor.
#pragma once

#include <cstdint>

#include "common/host_device.h"

namespace fastseg {

// Centre of cell `i` of `per_side` on the unit line. Evenly spaced from first to last, the last one
// exact: the rounding of SAM's own grid.
FASTSEG_HOST_DEVICE inline double grid_centre(int64_t i, int64_t per_side) {
    const double first = 1.0 / (2.0 * static_cast<double>(per_side));
    const double last = 1.0 - first;
    const double step = per_side > 1 ? (last - first) / static_cast<double>(per_side - 1) : 0.0;
    return i > 0 && i == per_side - 1 ? last : static_cast<double>(i) * step + first;
}

// One coordinate of a point on the unit square, in pixels of the model's square: first into the
// image, then as Frame.to_model goes (fastseg/geometry.py), in double precision and rounded once.
FASTSEG_HOST_DEVICE inline double grid_to_image(double share, int64_t size, int64_t origin) {
    return share * static_cast<double>(size) + static_cast<double>(origin);
}

FASTSEG_HOST_DEVICE inline float image_to_model(double position, int64_t size, int64_t origin,
                                                int64_t resized) {
    const double scale = static_cast<double>(resized) / static_cast<double>(size);
    return static_cast<float>((position - static_cast<double>(origin)) * scale);
}

}  // namespace fastseg
