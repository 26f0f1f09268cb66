// Logits to masks on the device: measure every mask, keep what passes, then write what is kept.
//
// A graphics processor has arithmetic to spare and no memory to waste: columns are traced twice
// (tracing.h) instead of storing what the first pass saw. The first pass counts: pixels above each
// threshold, box, and where each column begins and ends runs. That is all the filters need, so
// masks that do not pass are never written. One thread has one column: neighbouring threads see the
// same few logits, and a mask of 1920 x 1080 gives 60 warps that agree on which cells are decided.
#pragma once

#include <stdexcept>
#include <type_traits>

#include "common/box_math.h"
#include "device/frame_check.h"
#include "device/tracing.h"

namespace fastseg::device {

// The result of the first pass for one mask.
struct PlaneMeasure {
    uint32_t low, middle, high;  // pixels above the thresholds
    int32_t box[4];              // x0 y0 x1 y1 in the crop; x0 > x1 if empty
    uint32_t changes;            // positions to be written
    int64_t begin;               // of its positions in the candidates; negative: not kept
};

struct FillAxes {
    static constexpr int threads = 128;
    using Shared = Nothing;
    Axes axes;
    Enlargement across, down;

    FASTSEG_HOST_DEVICE static void fill(AxisTap* out, Enlargement axis, int64_t output) {
        const Stencil here = stencil(output, axis);
        out[output] = {{here.weight[0], here.weight[1], here.weight[2]},
                       static_cast<int32_t>(here.first)};
    }

    // Rows of cells begin where `first` grows; a cell without outputs is empty.
    FASTSEG_HOST_DEVICE void begin_cells(int64_t y) const {
        const int64_t before = y > 0 ? stencil(y - 1, down).first : -1;
        const int64_t here = stencil(y, down).first;
        const int32_t row = static_cast<int32_t>(y), end = static_cast<int32_t>(down.size);
        for (int64_t cell = before + 1; cell <= here; ++cell) axes.row_begins[cell] = row;
        if (y < down.size - 1) return;
        for (int64_t cell = here + 1; cell <= down.low; ++cell) axes.row_begins[cell] = end;
    }

    FASTSEG_HOST_DEVICE void operator()(Block<threads> block, Shared&) const {
        block.step([&](int t) {
            const int64_t output = block.x * threads + t;
            if (output < across.size) fill(axes.columns, across, output);
            if (output >= down.size) return;
            fill(axes.rows, down, output);
            begin_cells(output);
        });
    }
};

struct ClearMeasures {
    static constexpr int threads = 128;
    using Shared = Nothing;
    PlaneMeasure* measures;
    int64_t planes;

    FASTSEG_HOST_DEVICE void operator()(Block<threads> block, Shared&) const {
        block.each(planes, [&](int64_t plane) {
            measures[plane] = {0, 0, 0, {INT32_MAX, INT32_MAX, -1, -1}, 0, -1};
        });
    }
};

// The first pass: a block has the columns of a strip of one mask.
template <class Number>
struct MeasureMasks {
    static constexpr int threads = 128;
    struct Shared {
        uint32_t low[threads], middle[threads], high[threads], changes[threads];
        int32_t left[threads], top[threads], right[threads], bottom[threads];
    };
    Tracing<Number> job;
    const PlaneLabel* labels;
    PlaneMeasure* measures;
    uint32_t* columns;  // [planes, width] changes in each

    FASTSEG_HOST_DEVICE void trace(const Block<threads>& block, Shared& shared, int t) const {
        const int64_t x = block.x * threads + t;
        ColumnCounts counts;
        uint32_t changes = 0;
        if (x < job.width) {
            const Number* plane = job.logits + block.y * job.low_height * job.low_width;
            counts = trace_column(job, plane, x, [&](uint32_t) { ++changes; });
            columns[block.y * job.width + x] = changes;
        }
        const bool any = counts.middle > 0;
        shared.low[t] = counts.low;
        shared.middle[t] = counts.middle;
        shared.high[t] = counts.high;
        shared.changes[t] = changes;
        shared.left[t] = any ? static_cast<int32_t>(x) : INT32_MAX;
        shared.right[t] = any ? static_cast<int32_t>(x) : -1;
        shared.top[t] = counts.top;
        shared.bottom[t] = counts.bottom;
    }

    FASTSEG_HOST_DEVICE static void merge(Shared& shared, int t, int other) {
        shared.low[t] += shared.low[other];
        shared.middle[t] += shared.middle[other];
        shared.high[t] += shared.high[other];
        shared.changes[t] += shared.changes[other];
        shared.left[t] = lesser_of(shared.left[t], shared.left[other]);
        shared.top[t] = lesser_of(shared.top[t], shared.top[other]);
        shared.right[t] = greater_of(shared.right[t], shared.right[other]);
        shared.bottom[t] = greater_of(shared.bottom[t], shared.bottom[other]);
    }

    FASTSEG_HOST_DEVICE void operator()(Block<threads> block, Shared& shared) const {
        if (labels[block.y].prompt < 0) return;
        block.step([&](int t) { trace(block, shared, t); });
        for (int active = threads / 2; active > 0; active /= 2) {
            block.step([&](int t) {
                if (t < active) merge(shared, t, t + active);
            });
        }
        block.step([&](int t) {
            if (t != 0) return;
            PlaneMeasure& mask = measures[block.y];
            collect_sum(&mask.low, shared.low[0]);
            collect_sum(&mask.middle, shared.middle[0]);
            collect_sum(&mask.high, shared.high[0]);
            collect_sum(&mask.changes, shared.changes[0]);
            collect_least(&mask.box[0], shared.left[0]);
            collect_least(&mask.box[1], shared.top[0]);
            collect_greatest(&mask.box[2], shared.right[0]);
            collect_greatest(&mask.box[3], shared.bottom[0]);
        });
    }
};

// Decide about the masks of a call and add those that stay to the candidates, in order. One block:
// a call has hundreds of masks, and the candidates' order must not depend on who comes first.
struct KeepMasks {
    static constexpr int threads = 256;
    struct Shared {
        PrefixSums<int32_t, threads> masks;
        PrefixSums<int64_t, threads> changes;
    };
    const PlaneLabel* labels;
    PlaneMeasure* measures;
    int64_t planes;
    Frame frame;
    MaskFilter filter;
    Candidates candidates;

    FASTSEG_HOST_DEVICE static float stability(const PlaneMeasure& mask) {
        return static_cast<float>(mask.high) / static_cast<float>(mask.low);
    }

    // An empty mask gives zeros, wherever its crop lies, as the CPU's boxes of run lengths do.
    FASTSEG_HOST_DEVICE int32_t edge(const PlaneMeasure& mask, int i) const {
        if (mask.middle == 0) return 0;
        return mask.box[i] + static_cast<int32_t>(i % 2 == 0 ? frame.x0 : frame.y0);
    }

    FASTSEG_HOST_DEVICE bool stays(int64_t plane) const {
        if (plane >= planes || labels[plane].prompt < 0) return false;
        const PlaneMeasure& mask = measures[plane];
        // No bound from 0 down, as in SAM. An empty mask has no stability, NaN: no comparison lets
        // it pass a bound.
        if (filter.least_stability > 0 && !(stability(mask) >= filter.least_stability)) {
            return false;
        }
        const int64_t crop[4] = {frame.x0, frame.y0, frame.x1, frame.y1};
        const int64_t image[4] = {0, 0, frame.image.width, frame.image.height};
        bool cut = false;
        for (int i = 0; i < 4; ++i) {
            cut |= edge_is_cut(edge(mask, i), crop[i], image[i], filter.edge_tolerance);
        }
        return !cut;
    }

    // A mask whose positions find no room is there without any; the host sees it by `fill`.
    FASTSEG_HOST_DEVICE void add(int64_t plane, int64_t index, int64_t begin) const {
        if (index >= candidates.mask_capacity) return;
        PlaneMeasure& mask = measures[plane];
        MaskRecord record{labels[plane].score,
                          stability(mask),
                          mask.middle,
                          {0, 0, 0, 0},
                          labels[plane].prompt,
                          0,
                          0};
        for (int i = 0; i < 4; ++i) record.box[i] = edge(mask, i);
        if (begin + mask.changes <= candidates.run_capacity) {
            record.begin = mask.begin = begin;
            record.length = mask.changes;
        }
        candidates.records[index] = record;
    }

    FASTSEG_HOST_DEVICE void operator()(Block<threads> block, Shared& shared) const {
        Fill now = *candidates.fill;
        for (int64_t tile = 0; tile < planes; tile += threads) {
            shared.masks.compute(block, [&](int t) { return stays(tile + t) ? 1 : 0; });
            shared.changes.compute(block, [&](int t) {
                return stays(tile + t) ? int64_t{measures[tile + t].changes} : int64_t{0};
            });
            block.step([&](int t) {
                if (!stays(tile + t)) return;
                add(tile + t, now.masks + shared.masks.before(t),
                    now.runs + shared.changes.before(t));
            });
            now.masks += shared.masks.total;
            now.runs += shared.changes.total;
            block.step([](int) {});  // before the next tile overwrites the sums
        }
        block.step([&](int t) {
            if (t == 0) *candidates.fill = now;
        });
    }
};

// Changes in each column to changes before it, for masks that are kept.
struct ScanColumns {
    static constexpr int threads = 256;
    struct Shared {
        PrefixSums<uint32_t, threads> sums;
    };
    const PlaneMeasure* measures;
    int64_t width;
    uint32_t* columns;

    FASTSEG_HOST_DEVICE void operator()(Block<threads> block, Shared& shared) const {
        if (measures[block.x].begin < 0) return;
        uint32_t* row = columns + block.x * width;
        uint32_t before = 0;
        for (int64_t tile = 0; tile < width; tile += threads) {
            shared.sums.compute(
                block, [&](int t) { return tile + t < width ? row[tile + t] : uint32_t{0}; });
            block.step([&](int t) {
                if (tile + t < width) row[tile + t] = before + shared.sums.before(t);
            });
            before += shared.sums.total;
            block.step([](int) {});  // before the next tile overwrites the sums
        }
    }
};

// The second pass: the columns of kept masks again, written this time.
template <class Number>
struct WriteMasks {
    static constexpr int threads = 128;
    using Shared = Nothing;
    Tracing<Number> job;
    const PlaneMeasure* measures;
    const uint32_t* columns;
    uint32_t* positions;

    FASTSEG_HOST_DEVICE void operator()(Block<threads> block, Shared&) const {
        const int64_t begin = measures[block.y].begin;
        if (begin < 0) return;
        block.each(job.width, [&](int64_t x) {
            const Number* plane = job.logits + block.y * job.low_height * job.low_width;
            uint32_t* out = positions + begin + columns[block.y * job.width + x];
            trace_column(job, plane, x, [&](uint32_t position) { *out++ = position; });
        });
    }
};

// The division of the scratch memory; the largest alignment comes first.
struct BinarisePlan {
    Axes axes;
    PlaneMeasure* measures;
    uint32_t* columns;
    int64_t total;

    BinarisePlan(int64_t planes, Size low, Size size, void* workspace) {
        char* address = static_cast<char*>(workspace);
        const auto take = [&](auto*& array, int64_t count) {
            array = reinterpret_cast<std::remove_reference_t<decltype(array)>>(address);
            address += count * int64_t{sizeof(*array)};
        };
        take(axes.columns, size.width);
        take(axes.rows, size.height);
        take(measures, planes);
        take(axes.row_begins, low.height + 1);
        take(columns, planes * size.width);
        total = address - static_cast<char*>(workspace);
    }
};

inline void check_planes(int64_t planes, Size low, const Frame& frame) {
    if (planes < 0 || low.height < 1 || low.width < 1) {
        throw std::invalid_argument("logits have at least one row and one column");
    }
    if (low.height > frame.side || low.width > frame.side) {
        throw std::invalid_argument("logits are not larger than the square of their model");
    }
    if (frame.image.area() > int64_t{UINT32_MAX}) {
        throw std::invalid_argument("a mask has at most 4294967295 pixels");
    }
}

inline int64_t binarise_workspace(int64_t planes, Size low, Frame frame) {
    check_frame(frame);
    check_planes(planes, low, frame);
    return BinarisePlan(planes, low, frame.size(), nullptr).total;
}

template <class Launcher>
void binarise(Launcher launcher, LogitPlanes logits, const PlaneLabel* labels, Frame frame,
              Thresholds thresholds, MaskFilter filter, Candidates candidates, void* workspace) {
    const Size low{logits.height, logits.width}, size = frame.size();
    check_frame(frame);
    check_planes(logits.count, low, frame);
    const BinarisePlan plan(logits.count, low, size, workspace);
    const Enlargement across{low.width, frame.side, frame.resized.width, size.width};
    const Enlargement down{low.height, frame.side, frame.resized.height, size.height};
    const int64_t longest = size.width > size.height ? size.width : size.height;
    launcher.launch(FillAxes{plan.axes, across, down}, {blocks_for(longest, FillAxes::threads)});
    launcher.launch(ClearMeasures{plan.measures, logits.count},
                    {blocks_for(logits.count, ClearMeasures::threads)});
    const auto trace = [&](const auto* numbers) {
        using Number = std::remove_const_t<std::remove_pointer_t<decltype(numbers)>>;
        const Tracing<Number> job{
            numbers,
            low.height,
            low.width,
            frame.x0,
            frame.y0,
            size.height,
            size.width,
            frame.image.height,
            frame.image.width,
            thresholds,
            {margin(thresholds.low), margin(thresholds.middle), margin(thresholds.high)},
            plan.axes};
        const Grid strips{blocks_for(size.width, MeasureMasks<Number>::threads), logits.count};
        launcher.launch(MeasureMasks<Number>{job, labels, plan.measures, plan.columns}, strips);
        launcher.launch(KeepMasks{labels, plan.measures, logits.count, frame, filter, candidates},
                        {1});
        launcher.launch(ScanColumns{plan.measures, size.width, plan.columns}, {logits.count});
        launcher.launch(WriteMasks<Number>{job, plan.measures, plan.columns, candidates.positions},
                        strips);
    };
    if (logits.fp16) {
        trace(static_cast<const Fp16*>(logits.data));
    } else {
        trace(static_cast<const float*>(logits.data));
    }
}

}  // namespace fastseg::device
