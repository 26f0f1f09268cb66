// The two ways to lay disks along a mask's long axis.
#pragma once

#include "cpu/echo/long_axis.h"
#include "cpu/masks/bit_plane.h"

namespace fastseg::cpu {

struct Span {
    Point begin, end;
    double length;  // NaN, as the points, where there is nothing to span
};

struct Disks {
    Span axis;                 // from the top down
    std::vector<Span> chords;  // from the left to the right, from the top down
};

// Lines without width through the union of the pixels' squares, from the first entry to the last
// exit; disks of equal height, each cut through its middle.
Disks disks_exact(const std::vector<Segment>& rows, const LongAxis& axis, int64_t count);

// As published with Ferreira et al., Nat Commun 16, 4070 (2025), quirks included: directions beyond
// 0.7 radians are replaced by 0.45, ends are truncated to whole pixels, lines are drawn and met
// with the mask, and the disk_settings, at the disks' lower faces, move along the rows by a
// constant.
Disks disks_as_published(const BitPlane& mask, const LongAxis& axis, int64_t count);

}  // namespace fastseg::cpu
