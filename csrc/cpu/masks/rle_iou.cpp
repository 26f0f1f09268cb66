#include <vector>

#include "cpu/masks/rle.h"
#include "cpu/support/parallel.h"
#include "kernels.h"

namespace fastseg::cpu {
namespace {

struct Interval {
    int64_t begin, end;
};

// One mask, ready to be compared with many.
struct Shape {
    std::vector<Interval> runs;
    int64_t area;
    int64_t box[4];

    Shape(const Rle& all, int64_t index) : area(cpu::area(all, index)) {
        write_box(all, index, box);
        for_each_run(all, index, true,
                     [&](int64_t begin, int64_t end) { runs.push_back({begin, end}); });
    }
};

std::vector<Shape> shapes(const Rle& runs) {
    std::vector<Shape> result;
    result.reserve(static_cast<size_t>(runs.masks));
    for (int64_t index = 0; index < runs.masks; ++index) result.emplace_back(runs, index);
    return result;
}

int64_t shared_pixels(const Shape& a, const Shape& b) {
    if (a.box[0] > b.box[2] || b.box[0] > a.box[2] || a.box[1] > b.box[3] || b.box[1] > a.box[3]) {
        return 0;
    }
    int64_t sum = 0;
    for (size_t i = 0, j = 0; i < a.runs.size() && j < b.runs.size();) {
        const int64_t end = std::min(a.runs[i].end, b.runs[j].end);
        sum += std::max<int64_t>(0, end - std::max(a.runs[i].begin, b.runs[j].begin));
        if (a.runs[i].end == end) {
            ++i;
        } else {
            ++j;
        }
    }
    return sum;
}

double overlap(const Shape& a, const Shape& b) {
    const int64_t shared = shared_pixels(a, b);
    const int64_t either = a.area + b.area - shared;
    // Two empty masks are the same mask.
    return either == 0 ? 1.0 : static_cast<double>(shared) / static_cast<double>(either);
}

}  // namespace

void rle_iou(Rle a, Rle b, double* out, int threads) {
    rle_check(a);
    rle_check(b);
    const std::vector<Shape> rows = shapes(a);
    const std::vector<Shape> columns = shapes(b);
    const double work =
        2.0 * (static_cast<double>(a.offsets[a.masks]) * static_cast<double>(b.masks) +
               static_cast<double>(b.offsets[b.masks]) * static_cast<double>(a.masks));
    parallel_for(team_size(threads, a.masks, work), a.masks, [&] {
        return [&](int64_t index) {
            double* row = out + index * b.masks;
            for (const Shape& column : columns) {
                *row++ = overlap(rows[static_cast<size_t>(index)], column);
            }
        };
    });
}

}  // namespace fastseg::cpu
