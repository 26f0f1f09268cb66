#include "cpu/echo/long_axis.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace fastseg::cpu {
namespace {

__extension__ using Wide = __int128;  // a product of two sums of a large mask

// 0 + 1 + 4 + ... + (count - 1) squared.
int64_t squares_below(int64_t count) {
    return (count - 1) * count * (2 * count - 1) / 6;
}

struct Sums {
    int64_t pixels = 0;
    int64_t rows = 0, columns = 0;
    int64_t rows_rows = 0, columns_columns = 0, rows_columns = 0;

    explicit Sums(const std::vector<Segment>& segments) {
        for (const auto& [row, begin, end] : segments) {
            const int64_t count = end - begin;
            const int64_t here = (begin + end - 1) * count / 2;
            pixels += count;
            rows += row * count;
            columns += here;
            rows_rows += row * row * count;
            rows_columns += row * here;
            columns_columns += squares_below(end) - squares_below(begin);
        }
    }

    // pixels squared times a covariance.
    double scaled(int64_t products, int64_t a, int64_t b) const {
        return static_cast<double>(static_cast<Wide>(pixels) * products - static_cast<Wide>(a) * b);
    }
};

constexpr double steepest = 0.7;  // radians
constexpr double right_angle = std::numbers::pi / 2.0;

}  // namespace

double upright(double angle) {
    const double lean = std::abs(angle);
    if (lean <= steepest) return angle;
    return std::copysign(steepest * (right_angle - lean) / (right_angle - steepest), angle);
}

LongAxis long_axis(const std::vector<Segment>& segments) {
    const Sums sums(segments);
    const double count = static_cast<double>(sums.pixels);
    const double square = static_cast<double>(static_cast<Wide>(sums.pixels) * sums.pixels);
    const double down = sums.scaled(sums.rows_rows, sums.rows, sums.rows) / square;
    const double across = sums.scaled(sums.columns_columns, sums.columns, sums.columns) / square;
    const double both = sums.scaled(sums.rows_columns, sums.rows, sums.columns) / square;
    const double half = (down - across) / 2.0;
    const double spread = std::sqrt(half * half + both * both);
    const double largest = (down + across) / 2.0 + spread;
    const double smallest = std::max(0.0, (down + across) / 2.0 - spread);
    LongAxis axis;
    axis.centroid = {static_cast<double>(sums.rows) / count,
                     static_cast<double>(sums.columns) / count};
    axis.major = 4.0 * std::sqrt(largest);
    axis.minor = 4.0 * std::sqrt(smallest);
    axis.eccentricity = largest > 0.0 ? std::sqrt(1.0 - smallest / largest) : 0.0;
    if (down == across) {
        axis.angle = both > 0.0 ? std::numbers::pi / 4.0 : -std::numbers::pi / 4.0;
    } else {
        axis.angle = 0.5 * std::atan2(2.0 * both, down - across);
    }
    return axis;
}

}  // namespace fastseg::cpu
