// Distances of the pixels of a mask to the nearest pixel outside of it.
#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <vector>

#include "cpu/support/parallel.h"
#include "kernels.h"

namespace fastseg::cpu {
namespace {

constexpr double kFar = std::numeric_limits<double>::infinity();

// Squared distances along a line from squared distances across it: the lower envelope of the
// parabolas that stand on its pixels (Felzenszwalb and Huttenlocher 2012). Whole numbers stay
// exact, since crossings are compared with whole positions only.
class Envelope {
  public:
    explicit Envelope(size_t length) : places_(length), crossings_(length + 1) {}

    // `line` is read and replaced; `scale` is the squared distance of neighbours.
    void flatten(std::vector<double>& line, double scale) {
        const auto length = static_cast<int64_t>(line.size());
        int64_t last = -1;
        for (int64_t q = 0; q < length; ++q) {
            if (line[static_cast<size_t>(q)] == kFar) continue;
            double crossing = -kFar;
            while (last >= 0) {
                crossing = meet(line, places_[static_cast<size_t>(last)], q, scale);
                if (crossing > crossings_[static_cast<size_t>(last)]) break;
                --last;
            }
            if (last < 0) crossing = -kFar;
            ++last;
            places_[static_cast<size_t>(last)] = q;
            crossings_[static_cast<size_t>(last)] = crossing;
        }
        if (last < 0) return;
        lows_ = line;
        int64_t at = 0;
        for (int64_t x = 0; x < length; ++x) {
            while (at < last && crossings_[static_cast<size_t>(at) + 1] < static_cast<double>(x)) {
                ++at;
            }
            const int64_t place = places_[static_cast<size_t>(at)];
            const auto step = static_cast<double>(x - place);
            line[static_cast<size_t>(x)] =
                scale * (step * step) + lows_[static_cast<size_t>(place)];
        }
    }

  private:
    static double meet(const std::vector<double>& line, int64_t p, int64_t q, double scale) {
        const auto from = static_cast<double>(p), to = static_cast<double>(q);
        const double rise = line[static_cast<size_t>(q)] - line[static_cast<size_t>(p)];
        return (rise + scale * (to * to - from * from)) / (2 * scale * (to - from));
    }

    std::vector<int64_t> places_;
    std::vector<double> crossings_, lows_;
};

void exact(const uint8_t* mask, Size size, double row_mm, double column_mm, double* out) {
    const double down = row_mm * row_mm, across = column_mm * column_mm;
    for (int64_t x = 0; x < size.width; ++x) {
        double steps = kFar;
        for (int64_t y = 0; y < size.height; ++y) {
            steps = mask[y * size.width + x] ? steps + 1 : 0;
            out[y * size.width + x] = steps;
        }
        steps = kFar;
        for (int64_t y = size.height - 1; y >= 0; --y) {
            double& here = out[y * size.width + x];
            steps = std::min(steps + 1, here);
            here = down * (steps * steps);
        }
    }
    Envelope envelope(static_cast<size_t>(size.width));
    std::vector<double> line(static_cast<size_t>(size.width));
    for (int64_t y = 0; y < size.height; ++y) {
        double* row = out + y * size.width;
        std::copy(row, row + size.width, line.begin());
        envelope.flatten(line, across);
        std::transform(line.begin(), line.end(), row,
                       [](double value) { return std::sqrt(value); });
    }
}

// Steps of 1, 1.4 and 2.1969 pixels to the 16 neighbours of a 5 x 5 mask (Borgefors 1986), added up
// in float32 as OpenCV does on x86-64.
constexpr float kEdge = 1.0f, kCorner = 1.4f, kKnight = 2.1969f;

void chamfer(const uint8_t* mask, Size size, double* out) {
    constexpr int64_t kBorder = 2;
    const int64_t stride = size.width + 2 * kBorder;
    std::vector<float> steps(static_cast<size_t>((size.height + 2 * kBorder) * stride),
                             std::numeric_limits<float>::infinity());
    const auto nearest = [&](const float* here, int64_t back) {
        const int64_t up = back * stride, far = 2 * back * stride;
        return std::min({here[far - 1] + kKnight, here[far + 1] + kKnight, here[up - 2] + kKnight,
                         here[up - 1] + kCorner, here[up] + kEdge, here[up + 1] + kCorner,
                         here[up + 2] + kKnight, here[back] + kEdge});
    };
    for (int64_t y = 0; y < size.height; ++y) {
        float* row = steps.data() + (y + kBorder) * stride + kBorder;
        for (int64_t x = 0; x < size.width; ++x) {
            row[x] = mask[y * size.width + x] ? nearest(row + x, -1) : 0.0f;
        }
    }
    for (int64_t y = size.height - 1; y >= 0; --y) {
        float* row = steps.data() + (y + kBorder) * stride + kBorder;
        for (int64_t x = size.width - 1; x >= 0; --x) {
            row[x] = std::min(row[x], nearest(row + x, 1));
            out[y * size.width + x] = row[x];
        }
    }
}

}  // namespace

void distance_transform(Planes<const uint8_t> masks, DistanceSettings settings, double* out,
                        int threads) {
    const bool usable = settings.row_spacing > 0 && settings.column_spacing > 0;
    if (!usable) throw std::invalid_argument("spacings must be positive");
    const Size size{masks.height, masks.width};
    const double work = 20.0 * static_cast<double>(masks.count * size.area());
    parallel_for(team_size(threads, masks.count, work), masks.count, [&] {
        return [&](int64_t index) {
            double* plane = out + index * size.area();
            if (settings.metric == Metric::chamfer) {
                chamfer(masks.plane(index), size, plane);
            } else {
                exact(masks.plane(index), size, settings.row_spacing, settings.column_spacing,
                      plane);
            }
        };
    });
}

}  // namespace fastseg::cpu
