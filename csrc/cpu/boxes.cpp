#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "cpu/operations.h"

namespace fastseg::cpu {
namespace {

// The boxes in the order of their scores, each coordinate in a list of its own.
struct Sorted {
    std::vector<float> x0, y0, x1, y1, areas;

    Sorted(Boxes boxes, const std::vector<int64_t>& order) {
        for (std::vector<float>* list : {&x0, &y0, &x1, &y1, &areas}) list->reserve(order.size());
        for (const int64_t index : order) {
            const float* box = boxes.data + index * 4;
            x0.push_back(box[0]);
            y0.push_back(box[1]);
            x1.push_back(box[2]);
            y1.push_back(box[3]);
            areas.push_back((box[2] - box[0]) * (box[3] - box[1]));
        }
    }

    // Mark what overlaps box `i` and comes after it. The comparisons are written so that a NaN
    // never suppresses; the overlap is a float32, the threshold a double.
    void suppress(size_t i, double iou_threshold, uint8_t* suppressed) const {
        const float left = x0[i], top = y0[i], right = x1[i], bottom = y1[i], area = areas[i];
        for (size_t j = i + 1; j < areas.size(); ++j) {
            const float width = std::max(0.0f, std::min(right, x1[j]) - std::max(left, x0[j]));
            const float height = std::max(0.0f, std::min(bottom, y1[j]) - std::max(top, y0[j]));
            const float shared = width * height;
            const float overlap = shared / (area + areas[j] - shared);
            suppressed[j] |= static_cast<double>(overlap) > iou_threshold;
        }
    }
};

}  // namespace

int64_t box_nms(Boxes boxes, const float* scores, double iou_threshold, int64_t* kept) {
    std::vector<int64_t> order(static_cast<size_t>(boxes.count));
    std::iota(order.begin(), order.end(), int64_t{0});
    // A NaN sorts as the greatest score, as torch sorts it.
    const auto greater = [&](int64_t a, int64_t b) {
        if (std::isnan(scores[b])) return false;
        return std::isnan(scores[a]) || scores[a] > scores[b];
    };
    std::stable_sort(order.begin(), order.end(), greater);

    const Sorted sorted(boxes, order);
    std::vector<uint8_t> suppressed(order.size(), 0);
    int64_t count = 0;
    for (size_t i = 0; i < order.size(); ++i) {
        if (suppressed[i]) continue;
        kept[count++] = order[i];
        sorted.suppress(i, iou_threshold, suppressed.data());
    }
    return count;
}

void near_crop_edge(const int64_t* boxes, int64_t count, Frame frame, double tolerance,
                    uint8_t* out) {
    const int64_t crop[4] = {frame.x0, frame.y0, frame.x1, frame.y1};
    const int64_t image[4] = {0, 0, frame.image.width, frame.image.height};
    const auto near = [&](int64_t a, int64_t b) {
        return std::abs(static_cast<double>(a - b)) <= tolerance;
    };
    for (int64_t i = 0; i < count; ++i) {
        const int64_t* box = boxes + i * 4;
        bool cut = false;
        for (int edge = 0; edge < 4; ++edge) {
            cut |= near(box[edge], crop[edge]) && !near(box[edge], image[edge]);
        }
        out[i] = cut;
    }
}

}  // namespace fastseg::cpu
