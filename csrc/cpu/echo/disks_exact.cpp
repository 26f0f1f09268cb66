#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/echo/disks.h"

namespace fastseg::cpu {
namespace {

constexpr double infinite = std::numeric_limits<double>::infinity();
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

// Less than this of a direction along one axis moves no end by a visible part of a pixel, and the
// cosine of a right angle is never quite zero.
constexpr double negligible = 1e-12;

// Distances along a line from its origin.
struct Stretch {
    double first, last;

    bool empty() const { return first > last; }
};

// The part of a line between two parallel borders that are given by what they cross one axis at.
Stretch between(double low, double high, double origin, double slope) {
    if (slope == 0.0)
        return low <= origin && origin <= high ? Stretch{-infinite, infinite}
                                               : Stretch{infinite, -infinite};
    const double a = (low - origin) / slope, b = (high - origin) / slope;
    return {std::min(a, b), std::max(a, b)};
}

Stretch shared(Stretch a, Stretch b) {
    return {std::max(a.first, b.first), std::min(a.last, b.last)};
}

// From the first entry into a pixel of the mask to the last exit.
Span cross(const std::vector<Segment>& rows, Point origin, Point direction) {
    Stretch whole{infinite, -infinite};
    for (const auto& [row, begin, end] : rows) {
        const double y = static_cast<double>(row);
        const double left = static_cast<double>(begin) - 0.5,
                     right = static_cast<double>(end) - 0.5;
        const Stretch here = shared(between(y - 0.5, y + 0.5, origin.row, direction.row),
                                    between(left, right, origin.column, direction.column));
        if (here.empty()) continue;
        whole = {std::min(whole.first, here.first), std::max(whole.last, here.last)};
    }
    if (whole.empty()) return {{nan, nan}, {nan, nan}, nan};
    const auto at = [&](double far) {
        return Point{origin.row + far * direction.row, origin.column + far * direction.column};
    };
    return {at(whole.first), at(whole.last), whole.last - whole.first};
}

double without_noise(double component) {
    return std::abs(component) < negligible ? 0.0 : component;
}

}  // namespace

Disks disks_exact(const std::vector<Segment>& rows, const LongAxis& axis, int64_t count) {
    const Point down{without_noise(std::cos(axis.angle)), without_noise(std::sin(axis.angle))};
    const Point right{-down.column, down.row};
    Disks disks{cross(rows, axis.centroid, down), {}};
    const double height = disks.axis.length / static_cast<double>(count);
    for (int64_t k = 0; k < count; ++k) {
        const double far = (static_cast<double>(k) + 0.5) * height;
        const Point middle{disks.axis.begin.row + far * down.row,
                           disks.axis.begin.column + far * down.column};
        disks.chords.push_back(cross(rows, middle, right));
    }
    return disks;
}

}  // namespace fastseg::cpu
