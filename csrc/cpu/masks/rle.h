// Reading and writing run lengths, one mask at a time.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/masks/connected_components.h"
#include "kernels.h"

namespace fastseg::cpu {

using Counts = std::vector<uint32_t>;

// Writes run lengths from the positions, in column-major order, where a mask begins or ends.
class RunWriter {
  public:
    explicit RunWriter(Counts& counts) : counts_(counts) { counts_.clear(); }

    // `position` must be greater than the one before, except that the first may be 0.
    void toggle(int64_t position) {
        counts_.push_back(static_cast<uint32_t>(position - last_));
        last_ = position;
    }

    void finish(int64_t area) {
        if (last_ < area || counts_.empty()) toggle(area);
    }

  private:
    Counts& counts_;
    int64_t last_ = 0;
};

// Gathers runs [begin, end) of column-major positions, in order, into run lengths; runs that follow
// each other without a gap become one.
class RunGatherer {
  public:
    RunGatherer(int64_t area, Counts& counts) : area_(area), writer_(counts) {}

    void add(int64_t begin, int64_t end) {
        if (begin >= end) return;
        if (begin != close_) {
            flush();
            open_ = begin;
        }
        close_ = end;
    }

    void finish() {
        flush();
        writer_.finish(area_);
    }

  private:
    void flush() {
        if (open_ == close_) return;
        writer_.toggle(open_);
        if (close_ < area_) writer_.toggle(close_);
    }

    int64_t area_;
    RunWriter writer_;
    int64_t open_ = 0, close_ = 0;  // the run being gathered
};

// Call `visit(begin, end)` for every run of mask `index` that is set (or, with `set` false, is not)
// and not empty; positions are column-major. Rle that an empty run separates come apart.
template <class Visit>
void for_each_run(const Rle& runs, int64_t index, bool set, Visit visit) {
    int64_t position = 0;
    bool value = false;
    for (int64_t i = runs.offsets[index]; i < runs.offsets[index + 1]; ++i, value = !value) {
        const int64_t end = position + runs.counts[i];
        if (value == set && end > position) visit(position, end);
        position = end;
    }
}

// The runs of a mask cut at the column ends: sorted by column, then from top to bottom, and where
// an empty run cut a segment in two it is whole again.
std::vector<Segment> segments(const Rle& runs, int64_t index, bool set);

// x0 y0 x1 y1, inclusive, of one mask; zeros if it is empty.
void write_box(const Rle& runs, int64_t index, int64_t* box);
int64_t area(const Rle& runs, int64_t index);

// Lists of several masks, joined: fills `offsets` and gives where the joined values are to go.
template <class T>
void join(const std::vector<std::vector<T>>& lists, const Allocate<T>& allocate, int64_t* offsets) {
    offsets[0] = 0;
    for (size_t i = 0; i < lists.size(); ++i) {
        offsets[i + 1] = offsets[i] + static_cast<int64_t>(lists[i].size());
    }
    T* out = allocate(offsets[lists.size()]);
    for (const std::vector<T>& list : lists) out = std::copy(list.begin(), list.end(), out);
}

}  // namespace fastseg::cpu
