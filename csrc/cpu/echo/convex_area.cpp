// The hull is found in half pixels, where all its corners are whole numbers.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "cpu/echo/long_axis.h"
#include "cpu/support/integer_math.h"

namespace fastseg::cpu {
namespace {

struct Corner {
    int64_t y, x;  // half pixels
};

// The left border of a convex hull: x is a convex function of y.
class Border {
  public:
    // `y` never decreases.
    void add(Corner corner) {
        if (!corners_.empty() && corners_.back().y == corner.y) {
            if (corners_.back().x <= corner.x) return;
            corners_.pop_back();
        }
        while (corners_.size() >= 2 &&
               !bends(corners_[corners_.size() - 2], corners_.back(), corner)) {
            corners_.pop_back();
        }
        corners_.push_back(corner);
    }

    // The first pixel of a row whose centre is not left of the border. Rows must not decrease.
    int64_t first_pixel(int64_t row) {
        const int64_t y = 2 * row;
        while (corners_[at_ + 1].y < y) ++at_;
        const auto [y0, x0] = corners_[at_];
        const auto [y1, x1] = corners_[at_ + 1];
        return divide_up(x0 * (y1 - y0) + (x1 - x0) * (y - y0), 2 * (y1 - y0));
    }

  private:
    static bool bends(Corner a, Corner b, Corner c) {
        return (b.y - a.y) * (c.x - a.x) > (b.x - a.x) * (c.y - a.y);
    }

    std::vector<Corner> corners_;
    size_t at_ = 0;
};

// The middles of the edges of the first pixel of a row, but for the right one.
void add_pixel(Border& border, int64_t row, int64_t column) {
    border.add({2 * row - 1, 2 * column});
    border.add({2 * row, 2 * column - 1});
    border.add({2 * row + 1, 2 * column});
}

}  // namespace

int64_t convex_area(const std::vector<Segment>& rows) {
    Border left, right;  // the right one is mirrored
    for (size_t i = 0; i < rows.size(); ++i) {
        const auto [row, begin, end] = rows[i];
        if (i == 0 || rows[i - 1].line != row) add_pixel(left, row, begin);
        if (i + 1 == rows.size() || rows[i + 1].line != row) add_pixel(right, row, 1 - end);
    }
    int64_t area = 0;
    for (int64_t row = rows.front().line; row <= rows.back().line; ++row) {
        area += 1 - right.first_pixel(row) - left.first_pixel(row);
    }
    return area;
}

}  // namespace fastseg::cpu
