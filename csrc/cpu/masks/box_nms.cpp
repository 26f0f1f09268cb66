#include <algorithm>
#include <numeric>
#include <vector>

#include "common/box_math.h"
#include "kernels.h"

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
            areas.push_back(at(areas.size()).area());
        }
    }

    FloatBox at(size_t i) const { return {x0[i], y0[i], x1[i], y1[i]}; }

    // Mark what overlaps box `i` and comes after it. The comparisons are written so that a NaN
    // never suppresses; the overlap is a float32, the threshold a double.
    void suppress(size_t i, double iou_threshold, uint8_t* suppressed) const {
        const FloatBox box = at(i);
        const float area = areas[i];
        for (size_t j = i + 1; j < areas.size(); ++j) {
            const float overlap = box_overlap(box, area, at(j), areas[j]);
            suppressed[j] |= static_cast<double>(overlap) > iou_threshold;
        }
    }
};

}  // namespace

int64_t box_nms(Boxes boxes, const float* scores, double iou_threshold, int64_t* kept) {
    std::vector<int64_t> order(static_cast<size_t>(boxes.count));
    std::iota(order.begin(), order.end(), int64_t{0});
    const auto greater = [&](int64_t a, int64_t b) { return scores_higher(scores[a], scores[b]); };
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
    for (int64_t i = 0; i < count; ++i) {
        const int64_t* box = boxes + i * 4;
        bool cut = false;
        for (int edge = 0; edge < 4; ++edge) {
            cut |= edge_is_cut(box[edge], crop[edge], image[edge], tolerance);
        }
        out[i] = cut;
    }
}

}  // namespace fastseg::cpu
