#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "cpu/echo/disks.h"

namespace fastseg::cpu {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr Span nothing{{nan, nan}, {nan, nan}, nan};

constexpr double steepest = 0.7;      // radians
constexpr double replacement = 0.45;  // radians
constexpr double reach = 0.6;         // of the major axis, both ways from the centroid

struct Pixel {
    int64_t row, column;

    auto operator<=>(const Pixel&) const = default;  // raster order
};

Pixel truncated(double row, double column) {
    return {static_cast<int64_t>(row), static_cast<int64_t>(column)};
}

// Call `visit(pixel)` for every pixel that an anti-aliased line covers at all, some of them twice.
// The line and its coverages are those of Zingl, "A rasterizing algorithm for drawing curves"
// (2012), which scikit-image's line_aa draws.
template <class Visit>
void visit_line(Pixel from, Pixel to, Visit visit) {
    const int64_t across = std::abs(to.column - from.column);
    const int64_t down = std::abs(to.row - from.row);
    const int64_t right = from.column < to.column ? 1 : -1;
    const int64_t below = from.row < to.row ? 1 : -1;
    const double length =
        across + down == 0 ? 1.0 : std::sqrt(static_cast<double>(across * across + down * down));
    // Distance of a pixel from the line, in parts of `length`; one whole part is no coverage.
    const auto cover = [&](Pixel pixel, int64_t distance) {
        if (1.0 - static_cast<double>(std::abs(distance)) / length > 0.0) visit(pixel);
    };
    Pixel here = from;
    int64_t error = across - down;
    while (true) {
        cover(here, error - across + down);
        const int64_t before = error;
        const int64_t column = here.column;
        if (2 * before >= -across) {
            if (here.column == to.column) break;
            if (static_cast<double>(before + down) < length) {
                cover({here.row + below, here.column}, before + down);
            }
            error -= down;
            here.column += right;
        }
        if (2 * before <= down) {
            if (here.row == to.row) break;
            if (static_cast<double>(across - before) < length) {
                cover({here.row, column + right}, across - before);
            }
            error += across;
            here.row += below;
        }
    }
}

Span between(Pixel a, Pixel b) {
    const double down = static_cast<double>(b.row - a.row);
    const double across = static_cast<double>(b.column - a.column);
    return {{static_cast<double>(a.row), static_cast<double>(a.column)},
            {static_cast<double>(b.row), static_cast<double>(b.column)},
            std::sqrt(down * down + across * across)};
}

// Of the mask's pixels on a line, those that come first and last by an order.
template <class Before>
Span extremes(const BitPlane& mask, Pixel from, Pixel to, Before first, Before last) {
    std::optional<Pixel> begin, end;
    visit_line(from, to, [&](Pixel pixel) {
        if (!mask.at(pixel.row, pixel.column)) return;
        if (!begin || first(pixel, *begin)) begin = pixel;
        if (!end || last(pixel, *end)) end = pixel;
    });
    return begin ? between(*begin, *end) : nothing;
}

using Order = bool (*)(Pixel, Pixel);

constexpr Order earlier = [](Pixel a, Pixel b) { return a < b; };
constexpr Order later = [](Pixel a, Pixel b) { return b < a; };

// Of pixels in one column the first in raster order counts, on both sides.
constexpr Order further_left = [](Pixel a, Pixel b) {
    return a.column != b.column ? a.column < b.column : a.row < b.row;
};
constexpr Order further_right = [](Pixel a, Pixel b) {
    return a.column != b.column ? a.column > b.column : a.row < b.row;
};

}  // namespace

Disks disks_as_published(const BitPlane& mask, const LongAxis& axis, int64_t count) {
    const double angle =
        std::abs(axis.angle) > steepest ? std::copysign(replacement, axis.angle) : axis.angle;
    const double cosine = std::cos(angle), sine = std::sin(angle);
    const auto [row, column] = axis.centroid;
    const double down = reach * axis.major * cosine, across = reach * axis.major * sine;
    Disks disks{extremes(mask, truncated(row - down, column - across),
                         truncated(row + down, column + across), earlier, later),
                {}};
    if (std::isnan(disks.axis.length)) {
        disks.chords.assign(static_cast<size_t>(count), nothing);
        return disks;
    }
    const Point top = disks.axis.begin;
    const double half = static_cast<double>(mask.size().width) / 2.0;
    const Pixel left = truncated(top.row + sine * half, top.column - cosine * half);
    const Pixel right = truncated(top.row - sine * half, top.column + cosine * half);
    const double height = disks.axis.length / static_cast<double>(count);
    for (int64_t k = 1; k <= count; ++k) {
        const double shift = static_cast<double>(k) * height / cosine;
        const auto shifted = [&](Pixel end) {
            return truncated(static_cast<double>(end.row) + shift,
                             static_cast<double>(end.column) + height);
        };
        disks.chords.push_back(
            extremes(mask, shifted(left), shifted(right), further_left, further_right));
    }
    return disks;
}

}  // namespace fastseg::cpu
