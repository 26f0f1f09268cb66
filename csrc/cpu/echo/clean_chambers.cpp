// Chambers of the heart, cleaned: one piece each, smooth at the scale of two pixels, no holes.
#include <algorithm>
#include <vector>

#include "cpu/masks/bit_plane.h"
#include "cpu/support/parallel.h"
#include "kernels.h"

namespace fastseg::cpu {
namespace {

// Of components of equal size the first in raster order stays.
void keep_largest(BitPlane& mask) {
    const std::vector<Segment> segments = mask.segments(true);
    Components components(segments, Touch::corners);
    std::vector<int64_t> areas(segments.size(), 0);
    for (size_t i = 0; i < segments.size(); ++i) {
        areas[components.root(i)] += segments[i].length();
    }
    const auto largest = std::max_element(areas.begin(), areas.end());
    const size_t kept = static_cast<size_t>(largest - areas.begin());
    mask.clear();
    for (size_t i = 0; i < segments.size(); ++i) {
        if (components.root(i) == kept) mask.fill(segments[i]);
    }
}

// Background that no path over edges joins to the border becomes mask.
void fill_holes(BitPlane& mask) {
    const std::vector<Segment> segments = mask.segments(false);
    Components components(segments, Touch::edges);
    const auto [height, width] = mask.size();
    std::vector<uint8_t> outside(segments.size(), 0);
    for (size_t i = 0; i < segments.size(); ++i) {
        const auto [line, begin, end] = segments[i];
        if (line == 0 || line == height - 1 || begin == 0 || end == width) {
            outside[components.root(i)] = 1;
        }
    }
    for (size_t i = 0; i < segments.size(); ++i) {
        if (!outside[components.root(i)]) mask.fill(segments[i]);
    }
}

void clean(const float* probabilities, float threshold, BitPlane& mask) {
    mask.set_above(probabilities, threshold);
    keep_largest(mask);
    mask.close_by_disk();
    fill_holes(mask);
}

// Take pixels that two chambers claim from all of them; the first mask becomes the union.
void resolve_overlaps(BitPlane* masks, int64_t count) {
    BitPlane& all = masks[0];
    all.clear();
    BitPlane contested(all.size());
    const int64_t words = all.size().height * all.words();
    for (int64_t k = 1; k < count; ++k) {
        for (int64_t i = 0; i < words; ++i) {
            contested.row(0)[i] |= all.row(0)[i] & masks[k].row(0)[i];
            all.row(0)[i] |= masks[k].row(0)[i];
        }
    }
    for (int64_t k = 0; k < count; ++k) {
        for (int64_t i = 0; i < words; ++i) masks[k].row(0)[i] &= ~contested.row(0)[i];
    }
}

}  // namespace

void clean_chambers(Planes<const float> probabilities, Cleaning cleaning, uint8_t* out,
                    int threads) {
    const Size size{probabilities.height, probabilities.width};
    const int64_t channels = cleaning.channels;
    const int64_t planes = probabilities.count;
    std::vector<BitPlane> masks(static_cast<size_t>(planes), BitPlane(size));
    const double work = 2.0 * static_cast<double>(planes * size.area());
    parallel_for(team_size(threads, planes, work), planes, [&] {
        return [&](int64_t index) {
            if (cleaning.exclusive && index % channels == 0) return;  // comes from the others
            clean(probabilities.plane(index), cleaning.threshold,
                  masks[static_cast<size_t>(index)]);
        };
    });
    const int64_t frames = planes / channels;
    parallel_for(team_size(threads, frames, 0.2 * work), frames, [&] {
        return [&](int64_t frame) {
            BitPlane* first = masks.data() + frame * channels;
            if (cleaning.exclusive) resolve_overlaps(first, channels);
            for (int64_t k = 0; k < channels; ++k) {
                first[k].write(out + (frame * channels + k) * size.area());
            }
        };
    });
}

}  // namespace fastseg::cpu
