// Small holes and islands, found by joining the vertical segments of neighbouring columns.
#include <vector>

#include "cpu/masks/rle.h"
#include "cpu/support/parallel.h"
#include "kernels.h"

namespace fastseg::cpu {
namespace {

// The segments of one mask (or of its background) labelled by the size of their regions.
struct LabelledRegions {
    std::vector<Segment> segments;
    std::vector<uint8_t> small;
    bool any_small = false;

    LabelledRegions(const Rle& runs, int64_t index, SmallRegions what)
        : segments(cpu::segments(runs, index, what.mode == Regions::islands)),
          small(segments.size()) {
        Components components(segments, Touch::corners);
        std::vector<int64_t> areas(segments.size(), 0);
        for (size_t i = 0; i < segments.size(); ++i) {
            areas[components.root(i)] += segments[i].length();
        }
        bool any_large = false;
        for (size_t i = 0; i < segments.size(); ++i) {
            small[i] = static_cast<double>(areas[components.root(i)]) < what.min_area;
            any_small |= small[i] != 0;
            any_large |= small[i] == 0;
        }
        if (what.mode == Regions::islands && !any_large) keep_largest(components, areas);
    }

  private:
    // When every island is small the largest stays; of equal ones the first, reading the image
    // in rows of 2x2 blocks, which is the order in which OpenCV numbers regions.
    void keep_largest(Components& components, const std::vector<int64_t>& areas) {
        size_t best = 0;
        const auto earlier = [&](const Segment& a, const Segment& b) {
            return std::pair(a.begin / 2, a.line / 2) < std::pair(b.begin / 2, b.line / 2);
        };
        for (size_t i = 1; i < segments.size(); ++i) {
            const int64_t here = areas[components.root(i)];
            const int64_t there = areas[components.root(best)];
            if (here > there || (here == there && earlier(segments[i], segments[best]))) best = i;
        }
        for (size_t i = 0; i < segments.size(); ++i) {
            if (components.root(i) == components.root(best)) small[i] = 0;
        }
    }
};

void copy(const Rle& runs, int64_t index, Counts& counts) {
    counts.assign(runs.counts + runs.offsets[index], runs.counts + runs.offsets[index + 1]);
}

// Write the mask that has the given segments, or everything but them.
void write(const LabelledRegions& regions, SmallRegions what, Size size, Counts& counts) {
    RunGatherer gatherer(size.area(), counts);
    // Islands: the large ones are the mask. Holes: the large ones are the background.
    for (size_t i = 0; i < regions.segments.size(); ++i) {
        if (regions.small[i]) continue;
        const int64_t column = regions.segments[i].line * size.height;
        gatherer.add(column + regions.segments[i].begin, column + regions.segments[i].end);
    }
    gatherer.finish();
    if (what.mode == Regions::islands) return;
    // The background was written: one run more, or less, in front makes it the mask.
    if (counts.front() == 0) {
        counts.erase(counts.begin());
    } else {
        counts.insert(counts.begin(), 0);
    }
}

bool remove_small(const Rle& runs, int64_t index, SmallRegions what, Counts& counts) {
    const LabelledRegions regions(runs, index, what);
    if (regions.any_small) {
        write(regions, what, runs.size, counts);
    } else {
        copy(runs, index, counts);
    }
    return regions.any_small;
}

}  // namespace

void rle_remove_small_regions(Rle runs, SmallRegions what, const RleOut& out, uint8_t* changed,
                              int threads) {
    rle_check(runs);
    std::vector<Counts> lists(static_cast<size_t>(runs.masks));
    const double work = 30.0 * static_cast<double>(runs.offsets[runs.masks]);
    parallel_for(team_size(threads, runs.masks, work), runs.masks, [&] {
        return [&](int64_t index) {
            changed[index] = remove_small(runs, index, what, lists[static_cast<size_t>(index)]);
        };
    });
    join(lists, out.counts, out.offsets);
}

}  // namespace fastseg::cpu
