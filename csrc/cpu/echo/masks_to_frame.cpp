// Masks of a square window of a frame, drawn in the frame's own pixels.
//
// A mask is taken as 0 and 1 at its pixels' centres and sampled bilinearly at the centres of the
// frame's pixels; a pixel is set from one half on. All values are integers: weights are counted
// in parts of 2 * (window's length), so nothing is rounded.
//
// Down one column of the frame only two columns of the mask matter, with the same weights in every
// row. The weighted value of a mask row is at least a half or it is not; between neighbouring rows
// of one kind every sample is of that kind too, and between rows of different above there is
// exactly one crossing, which a division finds.
#include <algorithm>
#include <bit>
#include <vector>

#include "cpu/masks/rle.h"
#include "cpu/support/integer_math.h"
#include "cpu/support/multiversion.h"
#include "cpu/support/parallel.h"
#include "kernels.h"

namespace fastseg::cpu {
namespace {

constexpr int64_t word_bits = 64;

// The two pixels of the mask around a frame's pixel, along one axis.
struct Neighbours {
    int64_t left, right;
    int64_t part;  // of the distance from left to right, in `whole`ths
};

// One axis: `inputs` mask pixels are spread over `length` pixels of the frame from `begin` on.
struct Spread {
    int64_t inputs, begin, length;

    int64_t whole() const { return 2 * length; }

    // Distance of a frame's pixel from the centre of the mask's first, in `whole`ths of a pixel.
    int64_t distance(int64_t position) const {
        return (2 * (position - begin) + 1) * inputs - length;
    }

    Neighbours neighbours(int64_t position) const {
        const int64_t limit = (inputs - 1) * whole();
        const int64_t source = std::clamp<int64_t>(distance(position), 0, limit);
        const int64_t left = source / whole();
        return {left, std::min(left + 1, inputs - 1), source % whole()};
    }

    // The first of the frame's pixels that lies at least this far behind.
    int64_t first_behind(int64_t far) const {
        return begin + divide_up(far + length - inputs, 2 * inputs);
    }
};

FASTSEG_MULTIVERSION
void pack_row(const uint8_t* row, int64_t width, int64_t bit, uint64_t* words) {
    for (int64_t x = 0; x < width; ++x) words[x] |= uint64_t{row[x] != 0} << bit;
}

// A mask whose columns are words, the topmost pixel first; for each 64 rows a row of words.
class Columns {
  public:
    Columns(Size size)
        : size_(size),
          words_(static_cast<size_t>((size.height + word_bits - 1) / word_bits * size.width)) {}

    void load(const uint8_t* mask) {
        std::fill(words_.begin(), words_.end(), uint64_t{0});
        for (int64_t y = 0; y < size_.height; ++y) {
            uint64_t* words = words_.data() + y / word_bits * size_.width;
            pack_row(mask + y * size_.width, size_.width, y % word_bits, words);
        }
    }

    bool at(int64_t y, int64_t x) const { return word(y / word_bits, x) >> (y % word_bits) & 1; }
    uint64_t word(int64_t index, int64_t x) const {
        return words_[static_cast<size_t>(index * size_.width + x)];
    }
    Size size() const { return size_; }

  private:
    Size size_;
    std::vector<uint64_t> words_;
};

// One column of the frame.
class Column {
  public:
    Column(const Columns& mask, Spread rows, Spread columns, int64_t x)
        : mask_(mask), rows_(rows), whole_(columns.whole()), neighbours_(columns.neighbours(x)) {}

    // Call `visit(begin, end)` with the mask's rows of this column, in order.
    template <class Visit>
    void visit_runs(int64_t top, int64_t bottom, Visit visit) const {
        const int64_t height = mask_.size().height;
        bool set = false;
        int64_t open = top;
        for (int64_t index = 0; index * word_bits < height; ++index) {
            const uint64_t above = half_or_more(index);
            uint64_t changes = above ^ (above << 1 | uint64_t{set});
            const int64_t rest = height - index * word_bits;
            if (rest < word_bits) changes &= (uint64_t{1} << rest) - 1;
            for (; changes != 0; changes &= changes - 1) {
                const int64_t y = index * word_bits + std::countr_zero(changes);
                const int64_t crossing = std::clamp(y == 0 ? top : cross(y, set), top, bottom);
                if (set) {
                    visit(open, crossing);
                } else {
                    open = crossing;
                }
                set = !set;
            }
        }
        if (set) visit(open, bottom);
    }

  private:
    // The weighted value of a mask's row, in `whole_`ths.
    int64_t value(int64_t y) const {
        const int64_t left = mask_.at(y, neighbours_.left) ? whole_ - neighbours_.part : 0;
        return left + (mask_.at(y, neighbours_.right) ? neighbours_.part : 0);
    }

    // Bits of the 64 rows whose value is at least a half.
    uint64_t half_or_more(int64_t index) const {
        const uint64_t left = mask_.word(index, neighbours_.left);
        const uint64_t right = mask_.word(index, neighbours_.right);
        if (2 * neighbours_.part == whole_) return left | right;
        return 2 * neighbours_.part < whole_ ? left : right;
    }

    // The first pixel of the frame at or after the crossing between mask rows y - 1 and y.
    int64_t cross(int64_t y, bool leaving) const {
        const int64_t above = value(y - 1), below = value(y), whole = rows_.whole();
        // above * (whole - part) + below * part compared with half of whole_ * whole.
        const int64_t wanted = whole_ / 2 * whole - above * whole;
        const int64_t part = leaving ? -wanted / (above - below) + 1  // the first that is less
                                     : divide_up(wanted, below - above);
        return rows_.first_behind((y - 1) * whole + part);
    }

    const Columns& mask_;
    Spread rows_;
    int64_t whole_;
    Neighbours neighbours_;
};

}  // namespace

void masks_to_frame(Planes<const uint8_t> masks, Window window, Size size, const RleOut& out,
                    int threads) {
    const Spread rows{masks.height, window.y0, window.y1 - window.y0};
    const Spread columns{masks.width, window.x0, window.x1 - window.x0};
    const int64_t left = std::clamp<int64_t>(window.x0, 0, size.width);
    const int64_t right = std::clamp<int64_t>(window.x1, 0, size.width);
    const int64_t top = std::clamp<int64_t>(window.y0, 0, size.height);
    const int64_t bottom = std::clamp<int64_t>(window.y1, 0, size.height);
    std::vector<Counts> lists(static_cast<size_t>(masks.count));
    const int64_t pixels = masks.height * masks.width;
    const double work = 0.5 * static_cast<double>(masks.count * pixels) +
                        100.0 * static_cast<double>(masks.count * (right - left));
    parallel_for(team_size(threads, masks.count, work), masks.count, [&] {
        return [&, mask = Columns({masks.height, masks.width})](int64_t index) mutable {
            mask.load(masks.plane(index));
            RunGatherer gatherer(size.area(), lists[static_cast<size_t>(index)]);
            for (int64_t x = left; x < right; ++x) {
                const Column column(mask, rows, columns, x);
                column.visit_runs(top, bottom, [&](int64_t begin, int64_t end) {
                    gatherer.add(x * size.height + begin, x * size.height + end);
                });
            }
            gatherer.finish();
        };
    });
    join(lists, out.counts, out.offsets);
}

}  // namespace fastseg::cpu
