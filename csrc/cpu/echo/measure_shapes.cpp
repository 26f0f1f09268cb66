// The measures of a chamber: area, long axis, and the disks that it is cut into.
#include <algorithm>
#include <limits>
#include <vector>

#include "cpu/echo/disks.h"
#include "cpu/echo/long_axis.h"
#include "cpu/masks/bit_plane.h"
#include "cpu/support/parallel.h"
#include "kernels.h"

namespace fastseg::cpu {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

// A mask's segments, and those of its components that the axis is laid through.
struct Pieces {
    std::vector<Segment> all, chosen;
    int64_t count = 0, area = 0;

    Pieces(const BitPlane& mask, AxisRule rule) : all(mask.segments(true)) {
        Components components(all, Touch::corners);
        std::vector<int64_t> areas(all.size(), 0);
        for (size_t i = 0; i < all.size(); ++i) {
            areas[components.root(i)] += all[i].length();
            count += components.root(i) == i;
            area += all[i].length();
        }
        // The first segment belongs to the first component.
        const auto largest = std::max_element(areas.begin(), areas.end());
        const size_t root =
            rule == AxisRule::as_published ? 0 : static_cast<size_t>(largest - areas.begin());
        for (size_t i = 0; i < all.size(); ++i) {
            if (components.root(i) == root) chosen.push_back(all[i]);
        }
    }
};

void write(const Span& span, double* points) {
    points[0] = span.begin.row;
    points[1] = span.begin.column;
    points[2] = span.end.row;
    points[3] = span.end.column;
}

ShapeMeasures empty_measures() {
    ShapeMeasures measures;
    std::fill_n(&measures.area, sizeof(measures) / sizeof(double), nan);
    measures.area = measures.pieces = 0.0;
    return measures;
}

void measure(const BitPlane& mask, DiskSettings disk_settings, int64_t index,
             const ShapesOut& out) {
    double* chords = out.chords + index * disk_settings.disks * 4;
    double* diameters = out.diameters + index * disk_settings.disks;
    const Pieces pieces(mask, disk_settings.rule);
    if (pieces.area == 0) {
        out.measures[index] = empty_measures();
        std::fill_n(chords, disk_settings.disks * 4, nan);
        std::fill_n(diameters, disk_settings.disks, nan);
        return;
    }
    LongAxis axis = long_axis(pieces.chosen);
    if (disk_settings.rule == AxisRule::upright) axis.angle = upright(axis.angle);
    const Disks disks = disk_settings.rule == AxisRule::as_published
                            ? disks_as_published(mask, axis, disk_settings.disks)
                            : disks_exact(pieces.chosen, axis, disk_settings.disks);
    ShapeMeasures& measures = out.measures[index];
    measures = {.area = static_cast<double>(pieces.area),
                .convex_area = static_cast<double>(convex_area(pieces.all)),
                .eccentricity = axis.eccentricity,
                .centroid = {axis.centroid.row, axis.centroid.column},
                .major_axis = axis.major,
                .minor_axis = axis.minor,
                .orientation = axis.angle,
                .ends = {},
                .length = disks.axis.length,
                .pieces = static_cast<double>(pieces.count)};
    write(disks.axis, measures.ends);
    for (int64_t k = 0; k < disk_settings.disks; ++k) {
        const Span& chord = disks.chords[static_cast<size_t>(k)];
        write(chord, chords + k * 4);
        diameters[k] = chord.length;
    }
}

}  // namespace

void measure_shapes(Planes<const uint8_t> masks, DiskSettings disk_settings, const ShapesOut& out,
                    int threads) {
    const Size size{masks.height, masks.width};
    const double work = 1.0 * static_cast<double>(masks.count * size.area());
    parallel_for(team_size(threads, masks.count, work), masks.count, [&] {
        return [&, mask = BitPlane(size)](int64_t index) mutable {
            mask.set_nonzero(masks.plane(index));
            measure(mask, disk_settings, index, out);
        };
    });
}

}  // namespace fastseg::cpu
