// Checks on the host, before any launch, of frames that no kernel supports.
#pragma once

#include <stdexcept>

#include "kernels.h"

namespace fastseg::device {

inline void check_frame(const Frame& frame) {
    const bool inside = 0 <= frame.x0 && frame.x0 < frame.x1 && frame.x1 <= frame.image.width &&
                        0 <= frame.y0 && frame.y0 < frame.y1 && frame.y1 <= frame.image.height;
    if (!inside) throw std::invalid_argument("the crop does not lie in the image");
    if (frame.resized.height > frame.side || frame.resized.width > frame.side) {
        throw std::invalid_argument("the resized part is larger than the square");
    }
    if (frame.resized.height < 1 || frame.resized.width < 1) {
        throw std::invalid_argument("the resized part has at least one pixel");
    }
}

}  // namespace fastseg::device
