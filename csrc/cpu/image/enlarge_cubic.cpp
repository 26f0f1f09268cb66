// Cubic convolution of the 4 x 4 nearest values (Keys 1981, slope -0.75), the first and last values
// repeated beyond the edges, as PyTorch enlarges: pixel centres at half-integers, along rows first.
#include <algorithm>
#include <array>
#include <cmath>
#include <stdexcept>
#include <vector>

#include "cpu/support/integer_math.h"
#include "cpu/support/multiversion.h"
#include "cpu/support/parallel.h"
#include "kernels.h"

namespace fastseg::cpu {
namespace {

constexpr int taps = 4;
constexpr int64_t rows_of_band = 64;
constexpr double nanoseconds_per_pixel = 2.0;

// Along one axis, the inputs of every output and their weights.
struct Axis {
    std::array<std::vector<int64_t>, taps> inputs;
    std::array<std::vector<float>, taps> weights;

    Axis(int64_t count, int64_t length) {
        constexpr float slope = -0.75f;
        const float scale = static_cast<float>(count) / static_cast<float>(length);
        for (int64_t output = 0; output < length; ++output) {
            // In single precision and rounded once, as PyTorch places pixels: in double precision
            // the values of large images are 3e-5 of the largest from its own.
            const float centre = std::fma(scale, static_cast<float>(output) + 0.5f, -0.5f);
            const float first = std::floor(centre);
            for (int tap = 0; tap < taps; ++tap) {
                const float x = std::abs(centre - first - static_cast<float>(tap - 1));
                const float near = ((slope + 2) * x - (slope + 3)) * x * x + 1;
                const float far = ((slope * x - 5 * slope) * x + 8 * slope) * x - 4 * slope;
                inputs[static_cast<size_t>(tap)].push_back(
                    std::clamp<int64_t>(static_cast<int64_t>(first) + tap - 1, 0, count - 1));
                weights[static_cast<size_t>(tap)].push_back(
                    static_cast<float>(x <= 1 ? near : far));
            }
        }
    }
};

FASTSEG_MULTIVERSION
void combine(const std::array<const float*, taps>& rows, const std::array<float, taps>& weights,
             int64_t width, float* to) {
    for (int64_t x = 0; x < width; ++x)
        to[x] = ((rows[0][x] * weights[0] + rows[1][x] * weights[1]) + rows[2][x] * weights[2]) +
                rows[3][x] * weights[3];
}

// The rows of a plane along the horizontal axis, the last four of them kept.
class EnlargedRows {
  public:
    EnlargedRows(const float* plane, int64_t plane_width, const Axis& axis, int64_t width)
        : plane_(plane), plane_width_(plane_width), axis_(axis), width_(width) {
        for (std::vector<float>& row : rows_) row.resize(static_cast<size_t>(width));
        kept_.fill(-1);
    }

    const float* row(int64_t index) {
        const auto slot = static_cast<size_t>(index % taps);
        float* to = rows_[slot].data();
        if (kept_[slot] == index) return to;
        kept_[slot] = index;
        const float* from = plane_ + index * plane_width_;
        const auto part = [&](size_t tap, size_t x) {
            return from[axis_.inputs[tap][x]] * axis_.weights[tap][x];
        };
        for (size_t x = 0; x < static_cast<size_t>(width_); ++x)
            to[x] = ((part(0, x) + part(1, x)) + part(2, x)) + part(3, x);
        return to;
    }

  private:
    const float* plane_;
    int64_t plane_width_;
    const Axis& axis_;
    int64_t width_;
    std::array<std::vector<float>, taps> rows_;
    std::array<int64_t, taps> kept_;
};

}  // namespace

void enlarge_cubic(Planes<const float> planes, Size size, Planes<float> out, int threads) {
    if (planes.height < 1 || planes.width < 1 || out.count != planes.count ||
        out.height < size.height || out.width < size.width)
        throw std::invalid_argument("planes are not empty, and out has room for each of them");
    const Axis rows(planes.height, size.height), columns(planes.width, size.width);
    const int64_t bands = divide_up(size.height, rows_of_band);
    const double nanoseconds = nanoseconds_per_pixel * static_cast<double>(planes.count) *
                               static_cast<double>(size.area());
    const int team = team_size(threads, planes.count * bands, nanoseconds);
    parallel_for(team, planes.count * bands, [&] {
        return [&](int64_t item) {
            const int64_t index = item / bands, first = item % bands * rows_of_band;
            EnlargedRows enlarged(planes.plane(index), planes.width, columns, size.width);
            for (int64_t y = first; y < std::min(first + rows_of_band, size.height); ++y) {
                std::array<const float*, taps> from;
                std::array<float, taps> weights;
                for (size_t tap = 0; tap < taps; ++tap) {
                    from[tap] = enlarged.row(rows.inputs[tap][static_cast<size_t>(y)]);
                    weights[tap] = rows.weights[tap][static_cast<size_t>(y)];
                }
                combine(from, weights, size.width, out.plane(index) + y * out.width);
            }
        };
    });
}

}  // namespace fastseg::cpu
