// From low-resolution logits to the masks of a whole picture, without its logits ever existing.
//
// An output pixel is a weighted sum of 3x3 logits (sampling.h). Where all nine lie on one side of a
// threshold the pixel is settled without arithmetic, and so are all pixels that see the same nine:
// a cell. Cells that are not settled lie along outlines, so almost all of the work is along
// outlines too. Columns are traced from left to right and from top to bottom, which is the order of
// COCO run lengths: a mask is written as it is found.
#include <bit>
#include <stdexcept>
#include <vector>

#include "cpu/cells.h"
#include "cpu/operations.h"
#include "cpu/run_lists.h"
#include "cpu/sieve.h"
#include "cpu/threads.h"

namespace fastseg::cpu {
namespace {

// What all masks of a call have in common.
struct Job {
    Planes<const float> logits;
    Frame frame;
    Thresholds thresholds;
    Axis vertical, horizontal;

    Job(Planes<const float> given, Frame into, Thresholds limits)
        : logits(given),
          frame(into),
          thresholds(limits),
          vertical({given.height, into.side, into.resized.height, into.size().height}),
          horizontal({given.width, into.side, into.resized.width, into.size().width}) {}
};

class Tracer {
  public:
    explicit Tracer(const Job& job)
        : job_(job),
          sieve_(job.thresholds),
          cells_({job.logits.height, job.logits.width}, job.vertical, job.thresholds) {}

    // Write the run lengths of one mask; returns the pixels above the outer thresholds.
    PixelCounts trace(const float* logits, Counts& counts) {
        const Frame& frame = job_.frame;
        const int64_t height = frame.image.height;
        const bool full_height = frame.size().height == height;
        cells_.sort(logits);
        settled_ = {};
        sieve_ = Sieve(job_.thresholds);
        inside_ = false;
        RunWriter writer(counts);
        for (const Cell& strip : job_.horizontal.cells) {
            const std::vector<Event>& events = cells_.events(strip.first);
            count_settled(events, strip.end - strip.begin);
            gather(logits, strip.first, events);
            for (int64_t x = strip.begin; x < strip.end; ++x) {
                const int64_t top = (frame.x0 + x) * height + frame.y0;
                weigh_column(x);
                trace_column(events, top, writer);
                if (!full_height) set(false, top + frame.size().height, writer);
            }
        }
        if (frame.x1 < frame.image.width) set(false, frame.x1 * height, writer);
        writer.finish(frame.image.area());
        const PixelCounts computed = sieve_.counted();
        return {settled_.low + computed.low, settled_.high + computed.high};
    }

  private:
    void set(bool inside, int64_t position, RunWriter& writer) {
        if (inside != inside_) writer.toggle(position);
        inside_ = inside;
    }

    // Settled cells hold the same pixels in every column of a strip.
    void count_settled(const std::vector<Event>& events, int64_t columns) {
        for (size_t i = 0; i < events.size(); ++i) {
            if (!events[i].settled() || events[i].least == 0) continue;
            const int64_t end =
                i + 1 < events.size() ? cell(events[i + 1]).begin : job_.frame.size().height;
            const int64_t pixels = (end - cell(events[i]).begin) * columns;
            settled_.low += pixels;
            if (events[i].least == levels) settled_.high += pixels;
        }
    }

    // Copy the logits that the unsettled cells of a strip see: rows in order, none twice, so that
    // the three rows of a cell lie behind each other.
    void gather(const float* logits, int64_t column, const std::vector<Event>& events) {
        const int64_t width = job_.logits.width;
        const int64_t columns[taps] = {column, std::min(column + 1, width - 1),
                                       std::min(column + 2, width - 1)};
        for (std::vector<float>& list : taken_) list.clear();
        starts_.clear();
        int64_t next = 0;  // the first row that was not looked at
        for (const Event& event : events) {
            if (event.settled()) continue;
            const int64_t first = cell(event).first;
            const int64_t known = std::max<int64_t>(0, next - first);
            starts_.push_back(taken_[0].size() - static_cast<size_t>(known));
            for (next = std::max(next, first); next < first + taps; ++next) {
                const float* row = logits + std::min(next, job_.logits.height - 1) * width;
                for (int tap = 0; tap < taps; ++tap) {
                    taken_[tap].push_back(finite(row[columns[tap]]));
                }
            }
        }
        values_.resize(taken_[0].size());
    }

    // Column x of the picture at the gathered rows.
    void weigh_column(int64_t x) {
        const size_t column = static_cast<size_t>(x);
        const float w0 = job_.horizontal.weights[0][column];
        const float w1 = job_.horizontal.weights[1][column];
        const float w2 = job_.horizontal.weights[2][column];
        for (size_t i = 0; i < values_.size(); ++i) {
            values_[i] = weigh(w0, w1, w2, taken_[0][i], taken_[1][i], taken_[2][i]);
        }
    }

    void trace_column(const std::vector<Event>& events, int64_t top, RunWriter& writer) {
        Sieve sieve = sieve_;  // a copy whose counts can stay in registers
        bool inside = inside_;
        // The next `count` rows, at most `lanes`.
        const auto step = [&](int64_t y, const float* values, int64_t count) {
            const auto& weights = job_.vertical.weights;
            const unsigned above =
                sieve.pass({{&weights[0][y], &weights[1][y], &weights[2][y]}, values}, count);
            const unsigned before = above << 1 | static_cast<unsigned>(inside);
            unsigned changes = (above ^ before) & ((1u << count) - 1);
            for (; changes != 0; changes &= changes - 1) {
                writer.toggle(top + y + std::countr_zero(changes));
            }
            inside = above >> (count - 1) & 1;
        };
        const size_t* start = starts_.data();
        for (const Event& event : events) {
            const Cell& rows = cell(event);
            if (event.settled()) {
                // Thresholds passed are counted from the lowest: 2 of 3 make the mask.
                const bool now = event.least >= 2;
                if (now != inside) writer.toggle(top + rows.begin);
                inside = now;
                continue;
            }
            const float* values = &values_[*start++];
            int64_t y = rows.begin;
            for (; y + lanes <= rows.end; y += lanes) step(y, values, lanes);
            if (y < rows.end) step(y, values, rows.end - y);
        }
        sieve_ = sieve;
        inside_ = inside;
    }

    const Cell& cell(const Event& event) const {
        return job_.vertical.cells[static_cast<size_t>(event.cell)];
    }

    const Job& job_;
    Sieve sieve_;
    CellSorter cells_;
    PixelCounts settled_;
    bool inside_ = false;
    std::vector<float> taken_[taps];  // logits of the unsettled rows of a strip
    std::vector<size_t> starts_;      // of each unsettled cell in them
    std::vector<float> values_;       // the same rows, one column of the picture
};

void check(const Planes<const float>& logits, const Frame& frame) {
    if (logits.height < 1 || logits.width < 1) {
        throw std::invalid_argument("logits have at least one row and one column");
    }
    if (logits.height > frame.side || logits.width > frame.side) {
        throw std::invalid_argument("logits are not larger than the square of their model");
    }
    const bool inside = 0 <= frame.x0 && frame.x0 < frame.x1 && frame.x1 <= frame.image.width &&
                        0 <= frame.y0 && frame.y0 < frame.y1 && frame.y1 <= frame.image.height;
    if (!inside) throw std::invalid_argument("the crop does not lie in the picture");
}

}  // namespace

void binarise(Planes<const float> logits, Frame frame, Thresholds thresholds,
              const BinarisedOut& out, int threads) {
    check(logits, frame);
    const Job job(logits, frame, thresholds);
    std::vector<Counts> lists(static_cast<size_t>(logits.count));
    const double work =
        static_cast<double>(logits.count) * (static_cast<double>(logits.height * logits.width) +
                                             100.0 * static_cast<double>(frame.size().width));
    share(team_size(threads, logits.count, work), logits.count, [&] {
        return [&, tracer = Tracer(job), counts = Counts()](int64_t index) mutable {
            const PixelCounts pixels = tracer.trace(logits.plane(index), counts);
            out.stability[index] = static_cast<float>(pixels.high) / static_cast<float>(pixels.low);
            // Areas and boxes are those of the runs: there is one truth about a mask.
            const int64_t offsets[2] = {0, static_cast<int64_t>(counts.size())};
            const Runs mask{counts.data(), offsets, 1, frame.image};
            out.areas[index] = area(mask, 0);
            write_box(mask, 0, out.boxes + index * 4);
            lists[static_cast<size_t>(index)].assign(counts.begin(), counts.end());
        };
    });
    join(lists, out.runs.counts, out.runs.offsets);
}

}  // namespace fastseg::cpu
