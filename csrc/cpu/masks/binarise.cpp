// From low-resolution logits to the masks of a whole image, without the logits of its pixels.
//
// An output pixel is a weighted sum of 3x3 logits (common/logit_stencil.h). Where all logits that a
// block of pixels depends on lie on one side of a threshold the block is decided without
// arithmetic. Blocks that are not decided lie along outlines, so almost all of the work is along
// outlines too. Columns are traced from left to right and from top to bottom, which is the order of
// COCO run lengths: a mask is written as it is found.
#include <algorithm>
#include <bit>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "cpu/masks/block_classifier.h"
#include "cpu/masks/column_band.h"
#include "cpu/masks/rle.h"
#include "cpu/masks/row_threshold.h"
#include "cpu/support/multiversion.h"
#include "cpu/support/parallel.h"
#include "kernels.h"

namespace fastseg::cpu {
namespace {

// The widest kernel that supports these rows, or the widest from the named one on.
const RowThresholdKernel& find_kernel(std::string_view name, const Rows& rows) {
    bool reached = false;
    for (const RowThresholdKernel* const* kernel = row_threshold_kernels(); *kernel; ++kernel) {
        reached = reached || name.empty() || name == (*kernel)->name;
        if (reached && rows.span_of_inputs((*kernel)->lanes) <= (*kernel)->window) return **kernel;
    }
    throw std::invalid_argument("this processor has no kernel \"" + std::string(name) + "\"");
}

// The parameters that all masks of a call share.
struct Job {
    Size low;
    Frame frame;
    Thresholds thresholds;
    Columns columns;
    Rows rows;
    const RowThresholdKernel& kernel;

    Job(Size logits, Frame into, Thresholds limits, std::string_view kernel_name)
        : low(logits),
          frame(into),
          thresholds(limits),
          columns({low.width, into.side, into.resized.width, into.size().width}),
          rows({low.height, into.side, into.resized.height, into.size().height}),
          kernel(find_kernel(kernel_name, rows)) {}
};

FASTSEG_MULTIVERSION
void weighted_sum_of_columns(const float* __restrict columns, int64_t stride, const float* weights,
                             int64_t count, float* __restrict out) {
    const float w0 = weights[0], w1 = weights[1], w2 = weights[2];
    for (int64_t y = 0; y < count; ++y) {
        out[y] = weighted_sum(w0, w1, w2, columns[y], columns[stride + y], columns[2 * stride + y]);
    }
}

// Four blocks of a column, or what there is of them at its end.
struct Word {
    int64_t begin, end;  // blocks
    uint64_t rows;       // that there are, the first one lowest

    bool ends_inside(uint64_t above) const { return (above & (rows ^ rows >> 1)) != 0; }
};

std::vector<Word> words_of(const Rows& rows) {
    constexpr int64_t blocks = 4, bits = blocks * block_rows;
    std::vector<Word> words;
    for (int64_t begin = 0; begin < rows.blocks(); begin += blocks) {
        const int64_t there = std::min(bits, rows.count - begin * block_rows);
        words.push_back(
            {begin, std::min(begin + blocks, rows.blocks()), ~uint64_t{0} >> (bits - there)});
    }
    return words;
}

class Tracer {
  public:
    explicit Tracer(const Job& job)
        : job_(job),
          classifier_(job.low, job.rows, job.thresholds),
          band_(job.low),
          values_(static_cast<size_t>(job.low.height + readable)),
          words_(words_of(job.rows)),
          above_(static_cast<size_t>(job.rows.blocks() + readable)) {}

    // Write the run lengths of one mask; returns the pixels above the outer thresholds.
    PixelCounts trace(const float* logits, Counts& counts) {
        const Frame& frame = job_.frame;
        const int64_t height = frame.image.height;
        classifier_.classify(logits);
        band_.open(logits, classifier_.begin(), classifier_.end());
        pixels_ = {};
        inside_ = false;
        RunWriter writer(counts);
        for (const Strip& strip : job_.columns.strips) {
            const bool occupied = classifier_.occupied(strip.first);
            if (occupied) plan(strip);
            for (int64_t x = strip.begin; x < strip.end; ++x) {
                const int64_t top = (frame.x0 + x) * height + frame.y0;
                if (occupied) {
                    if (!blocks_.empty()) threshold_column(strip.first, x);
                    write_column(top, writer);
                    if (job_.rows.count == height) continue;
                    set(false, top + job_.rows.count, writer);
                } else {
                    set(false, top, writer);
                }
            }
        }
        if (frame.x1 < frame.image.width) set(false, frame.x1 * height, writer);
        writer.finish(frame.image.area());
        return pixels_;
    }

  private:
    static constexpr int64_t readable = 33;  // behind the last value

    void set(bool inside, int64_t position, RunWriter& writer) {
        if (inside != inside_) writer.toggle(position);
        inside_ = inside;
    }

    // The parts that the columns of a strip share: the rows of decided blocks, the blocks that are
    // to be computed, and the words of 64 rows in which a mask may begin or end.
    void plan(const Strip& strip) {
        const int64_t columns = strip.end - strip.begin;
        const Level* level = classifier_.levels(strip.first);
        blocks_.clear();
        changing_.clear();
        bool inside = false, open = true;  // at the end of a word; open: it differs from x to x
        for (const Word& word : words_) {
            const size_t computed = blocks_.size();
            for (int64_t block = word.begin; block < word.end;
                 ++block, level += classifier_.stride()) {
                if (*level == undecided) {
                    blocks_.push_back(static_cast<int32_t>(block));
                } else {
                    fill_decided(block, *level, columns);
                }
            }
            const uint64_t above = bits(word);
            open = open || computed < blocks_.size();
            if (open || above != (inside ? word.rows : 0)) changing_.push_back(word);
            inside = word.ends_inside(above);
            open = computed < blocks_.size() && blocks_.back() == word.end - 1;
        }
    }

    void fill_decided(int64_t block, Level level, int64_t columns) {
        // Thresholds passed are counted from the lowest: 2 of 3 make the mask.
        const uint16_t rows = job_.rows.valid[static_cast<size_t>(block)];
        above_[static_cast<size_t>(block)] = level >= 2 ? rows : 0;
        if (level == 0) return;
        const int64_t pixels = columns * std::min(block_rows, job_.rows.count - block * block_rows);
        pixels_.low += pixels;
        if (level == 3) pixels_.high += pixels;
    }

    // Compute the blocks of column x that are not decided.
    void threshold_column(int64_t first, int64_t x) {
        const Rows& rows = job_.rows;
        const float weights[taps] = {job_.columns.weights[0][static_cast<size_t>(x)],
                                     job_.columns.weights[1][static_cast<size_t>(x)],
                                     job_.columns.weights[2][static_cast<size_t>(x)]};
        const int64_t begin = rows.first[static_cast<size_t>(blocks_.front())];
        const int64_t end = rows.end[static_cast<size_t>(blocks_.back())];
        const float* columns = band_.take(first);
        weighted_sum_of_columns(columns + begin, band_.stride(), weights, end - begin,
                                &values_[begin]);
        const PixelCounts found = job_.kernel.pass(
            {rows.first.data(),
             rows.offsets.data(),
             {rows.weights[0].data(), rows.weights[1].data(), rows.weights[2].data()},
             rows.valid.data()},
            job_.thresholds,
            {values_.data(), blocks_.data(), static_cast<int64_t>(blocks_.size()), above_.data()});
        pixels_.low += found.low;
        pixels_.high += found.high;
    }

    void write_column(int64_t top, RunWriter& writer) {
        bool inside = inside_;
        for (const Word& word : changing_) {
            const uint64_t above = bits(word);
            uint64_t changes = (above ^ (above << 1 | uint64_t{inside})) & word.rows;
            const int64_t first = top + word.begin * block_rows;
            for (; changes != 0; changes &= changes - 1) {
                writer.toggle(first + std::countr_zero(changes));
            }
            inside = word.ends_inside(above);
        }
        inside_ = inside;
    }

    // The first row is the lowest bit.
    uint64_t bits(const Word& word) const {
        static_assert(std::endian::native == std::endian::little);
        uint64_t joined;
        std::memcpy(&joined, above_.data() + word.begin, sizeof(joined));
        return joined;
    }

    const Job& job_;
    BlockClassifier classifier_;
    ColumnBand band_;
    PixelCounts pixels_;
    bool inside_ = false;
    std::vector<int32_t> blocks_;  // of a strip, that are not decided
    std::vector<Word> changing_;   // words of a strip
    std::vector<float> values_;    // of one column, at the rows of logits
    std::vector<Word> words_;
    std::vector<uint16_t> above_;  // [blocks] what lies above the threshold in one column
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
    if (!inside) throw std::invalid_argument("the crop does not lie in the image");
}

}  // namespace

void binarise(Planes<const float> logits, Frame frame, Thresholds thresholds,
              const BinarisedOut& out, int threads, std::string_view kernel) {
    check(logits, frame);
    const Job job({logits.height, logits.width}, frame, thresholds, kernel);
    std::vector<Counts> lists(static_cast<size_t>(logits.count));
    const double work =
        static_cast<double>(logits.count) * (static_cast<double>(logits.height * logits.width) +
                                             100.0 * static_cast<double>(frame.size().width));
    parallel_for(team_size(threads, logits.count, work), logits.count, [&] {
        return [&, tracer = Tracer(job), counts = Counts()](int64_t index) mutable {
            const PixelCounts pixels = tracer.trace(logits.plane(index), counts);
            out.stability[index] = static_cast<float>(pixels.high) / static_cast<float>(pixels.low);
            // Areas and boxes are those of the runs: there is one truth about a mask.
            const int64_t offsets[2] = {0, static_cast<int64_t>(counts.size())};
            const Rle mask{counts.data(), offsets, 1, frame.image};
            out.areas[index] = area(mask, 0);
            write_box(mask, 0, out.boxes + index * 4);
            lists[static_cast<size_t>(index)].assign(counts.begin(), counts.end());
        };
    });
    join(lists, out.runs.counts, out.runs.offsets);
}

}  // namespace fastseg::cpu
