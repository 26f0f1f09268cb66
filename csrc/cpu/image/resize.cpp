#include "cpu/image/resize.h"

#include <stdexcept>

#include "common/pillow_filter.h"
#include "cpu/support/multiversion.h"
#include "cpu/support/parallel.h"
#include "kernels.h"

namespace fastseg::cpu {
namespace {

constexpr int channels = 3;
constexpr int32_t rounding = TriangleAxis::rounding;

FASTSEG_MULTIVERSION
void add_row(const uint8_t* row, int32_t weight, int64_t length, int32_t* sums) {
    for (int64_t x = 0; x < length; ++x) sums[x] += row[x] * weight;
}

FASTSEG_MULTIVERSION
void to_bytes(const int32_t* sums, int64_t length, uint8_t* out) {
    for (int64_t x = 0; x < length; ++x) out[x] = triangle_byte(sums[x]);
}

void resize_row(const uint8_t* row, const Triangle& triangle, uint8_t* out) {
    const int64_t outputs = static_cast<int64_t>(triangle.first.size());
    for (int64_t x = 0; x < outputs; ++x) {
        const uint8_t* pixel = row + triangle.first[static_cast<size_t>(x)] * channels;
        const int32_t* weight = triangle.weight(x);
        int32_t red = rounding, green = rounding, blue = rounding;
        for (int64_t i = 0; i < triangle.count[static_cast<size_t>(x)]; ++i, pixel += channels) {
            red += pixel[0] * weight[i];
            green += pixel[1] * weight[i];
            blue += pixel[2] * weight[i];
        }
        *out++ = triangle_byte(red);
        *out++ = triangle_byte(green);
        *out++ = triangle_byte(blue);
    }
}

// One row of the result, from the rows that it covers.
void resize_column(const uint8_t* rows, int64_t row_bytes, const Triangle& triangle, int64_t y,
                   int64_t length, uint8_t* out) {
    const size_t index = static_cast<size_t>(y);
    std::vector<int32_t> sums(static_cast<size_t>(length), rounding);
    const uint8_t* row = rows + triangle.first[index] * row_bytes;
    for (int64_t i = 0; i < triangle.count[index]; ++i, row += row_bytes) {
        add_row(row, triangle.weight(y)[i], length, sums.data());
    }
    to_bytes(sums.data(), length, out);
}

}  // namespace

Triangle::Triangle(int64_t inputs, int64_t outputs)
    : first(static_cast<size_t>(outputs)),
      count(static_cast<size_t>(outputs)),
      widest(TriangleAxis{inputs, outputs}.widest()) {
    weights.assign(static_cast<size_t>(outputs * widest), 0);
    for (int64_t output = 0; output < outputs; ++output) {
        const size_t index = static_cast<size_t>(output);
        const TriangleSpan span =
            triangle_weights({inputs, outputs}, output, weights.data() + output * widest);
        first[index] = span.first;
        count[index] = span.count;
    }
}

TwoPassResize::TwoPassResize(Image part, int64_t row_bytes, Size size, int threads)
    : size_(size),
      vertical_first_(
          vertical_pass_first(part.size.height - size.height, part.size.width - size.width)),
      horizontal_(part.size.width, size.width),
      vertical_(part.size.height, size.height),
      first_pass_width_(vertical_first_ ? part.size.width : size.width) {
    const int64_t rows = vertical_first_ ? size.height : part.size.height;
    first_pass_.resize(static_cast<size_t>(rows * first_pass_width_ * channels));
    const double work = 2.0 * static_cast<double>(part.size.height) *
                        static_cast<double>(part.size.width + first_pass_width_);
    parallel_for(team_size(threads, rows, work), rows, [&] {
        return [&](int64_t y) {
            uint8_t* out = first_pass_.data() + y * first_pass_width_ * channels;
            if (vertical_first_) {
                resize_column(part.data, row_bytes, vertical_, y, first_pass_width_ * channels,
                              out);
            } else {
                resize_row(part.data + y * row_bytes, horizontal_, out);
            }
        };
    });
}

void TwoPassResize::row(int64_t y, uint8_t* out) const {
    const int64_t row_bytes = first_pass_width_ * channels;
    if (vertical_first_) {
        resize_row(first_pass_.data() + y * row_bytes, horizontal_, out);
    } else {
        resize_column(first_pass_.data(), row_bytes, vertical_, y, row_bytes, out);
    }
}

void resize_bilinear(Image image, Size size, uint8_t* out, int threads) {
    if (image.size.area() < 1 || size.area() < 1) {
        throw std::invalid_argument("an image to resize has at least one pixel before and after");
    }
    const TwoPassResize resized(image, image.size.width * channels, size, threads);
    const double work = 4.0 * static_cast<double>(size.width * image.size.height);
    parallel_for(team_size(threads, size.height, work), size.height, [&] {
        return [&](int64_t y) { resized.row(y, out + y * size.width * channels); };
    });
}

}  // namespace fastseg::cpu
