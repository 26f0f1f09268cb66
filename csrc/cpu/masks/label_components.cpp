// Connected components of masks as numbers of their pixels.
#include <algorithm>
#include <vector>

#include "cpu/masks/connected_components.h"
#include "cpu/support/parallel.h"
#include "kernels.h"

namespace fastseg::cpu {
namespace {

std::vector<Segment> rows(const uint8_t* mask, Size size) {
    std::vector<Segment> found;
    for (int64_t y = 0; y < size.height; ++y) {
        const uint8_t* row = mask + y * size.width;
        for (int64_t x = 0; x < size.width; ++x) {
            if (!row[x]) continue;
            const int64_t begin = x;
            while (x < size.width && row[x]) ++x;
            found.push_back({y, begin, x});
        }
    }
    return found;
}

int32_t label(const uint8_t* mask, Size size, int32_t* out) {
    std::fill(out, out + size.area(), 0);
    const std::vector<Segment> segments = rows(mask, size);
    Components components(segments, Touch::corners);
    std::vector<int32_t> numbers(segments.size(), 0);
    int32_t count = 0;
    for (size_t i = 0; i < segments.size(); ++i) {
        // The root of a component is its first segment, so it has its number before the others.
        int32_t& number = numbers[components.root(i)];
        if (!number) number = ++count;
        int32_t* row = out + segments[i].line * size.width;
        std::fill(row + segments[i].begin, row + segments[i].end, number);
    }
    return count;
}

}  // namespace

void label_components(Planes<const uint8_t> masks, int32_t* out, int64_t* counts, int threads) {
    const Size size{masks.height, masks.width};
    const double work = 4.0 * static_cast<double>(masks.count * size.area());
    parallel_for(team_size(threads, masks.count, work), masks.count, [&] {
        return [&](int64_t index) {
            counts[index] = label(masks.plane(index), size, out + index * size.area());
        };
    });
}

}  // namespace fastseg::cpu
