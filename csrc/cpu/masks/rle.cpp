#include "cpu/masks/rle.h"

#include <cstring>
#include <stdexcept>
#include <string>

#include "cpu/support/multiversion.h"
#include "cpu/support/parallel.h"
#include "kernels.h"

namespace fastseg::cpu {
namespace {

// Flip the pixels where a column begins, or stops, to be set: XOR down the rows gives the mask.
void mark_changes(const Rle& runs, int64_t index, uint8_t* mask) {
    const auto [height, width] = runs.size;
    for_each_run(runs, index, true,
                 [&, height = height, width = width](int64_t begin, int64_t end) {
                     const int64_t first = begin / height;
                     const int64_t last = end / height;
                     mask[(begin % height) * width + first] ^= 1;
                     for (int64_t x = first + 1; x <= std::min(last, width - 1); ++x) mask[x] ^= 1;
                     if (last < width) mask[(end % height) * width + last] ^= 1;
                 });
}

void write_array(const Rle& runs, int64_t index, uint8_t* mask) {
    const auto [height, width] = runs.size;
    std::memset(mask, 0, static_cast<size_t>(height * width));
    mark_changes(runs, index, mask);
    for (int64_t y = 1; y < height; ++y) {
        const uint8_t* above = mask + (y - 1) * width;
        uint8_t* row = mask + y * width;
        for (int64_t x = 0; x < width; ++x) row[x] ^= above[x];
    }
}

// 1 where one of two rows is set and the other is not.
FASTSEG_MULTIVERSION
void compare_rows(const uint8_t* __restrict a, const uint8_t* __restrict b, int64_t count,
                  uint8_t* __restrict out) {
    for (int64_t x = 0; x < count; ++x) out[x] = (a[x] != 0) ^ (b[x] != 0);
}

// Finds where a row-major mask changes in column-major order, reading it row by row.
class ArrayReader {
  public:
    explicit ArrayReader(Size size)
        : size_(size), changes_(static_cast<size_t>(size.width)), line_(changes_.size() + 8) {}

    void read(const uint8_t* mask, Counts& counts) {
        for (std::vector<uint32_t>& column : changes_) column.clear();
        for (int64_t y = 0; y < size_.height; ++y) collect(mask, y);
        RunWriter writer(counts);
        for (int64_t x = 0; x < size_.width; ++x) {
            for (const uint32_t y : changes_[static_cast<size_t>(x)]) {
                writer.toggle(x * size_.height + y);
            }
        }
        writer.finish(size_.area());
    }

  private:
    // Row y against the pixels before it in column-major order: the row above, and for the first
    // row the last one, moved by one column.
    void collect(const uint8_t* mask, int64_t y) {
        const int64_t width = size_.width;
        const uint8_t* row = mask + y * width;
        if (y > 0) {
            compare_rows(row, row - width, width, line_.data());
        } else {
            const uint8_t* last = mask + (size_.height - 1) * width;
            line_[0] = row[0] != 0;
            compare_rows(row + 1, last, width - 1, line_.data() + 1);
        }
        for (int64_t x = 0; x < width; x += 8) {
            uint64_t eight;
            std::memcpy(&eight, &line_[static_cast<size_t>(x)], sizeof(eight));
            if (eight == 0) continue;
            for (int64_t i = x; i < std::min(x + 8, width); ++i) {
                if (line_[i]) changes_[static_cast<size_t>(i)].push_back(static_cast<uint32_t>(y));
            }
        }
    }

    Size size_;
    std::vector<std::vector<uint32_t>> changes_;  // rows, for each column
    std::vector<uint8_t> line_;                   // 8 zeros longer than a row
};

}  // namespace

std::vector<Segment> segments(const Rle& runs, int64_t index, bool set) {
    const int64_t height = runs.size.height;
    std::vector<Segment> found;
    for_each_run(runs, index, set, [&](int64_t begin, int64_t end) {
        while (begin < end) {
            const int64_t x = begin / height;
            const int64_t stop = std::min(end, (x + 1) * height);
            const Segment piece{x, begin - x * height, stop - x * height};
            if (!found.empty() && found.back().line == x && found.back().end == piece.begin) {
                found.back().end = piece.end;
            } else {
                found.push_back(piece);
            }
            begin = stop;
        }
    });
    return found;
}

void write_box(const Rle& runs, int64_t index, int64_t* box) {
    const int64_t height = runs.size.height;
    int64_t left = runs.size.width, top = height, right = -1, bottom = -1;
    int64_t column = 0, start = 0;  // the column that a run begins in, and its first pixel
    for_each_run(runs, index, true, [&](int64_t begin, int64_t end) {
        if (begin - start >= height) {
            const int64_t columns = (begin - start) / height;
            column += columns;
            start += columns * height;
        }
        left = std::min(left, column);
        if (end - start <= height) {
            right = column;
            top = std::min(top, begin - start);
            bottom = std::max(bottom, end - 1 - start);
        } else {
            // Over a column's end: it holds the last row of one and the first row of the next.
            right = column + (end - 1 - start) / height;
            top = 0;
            bottom = height - 1;
        }
    });
    if (right < 0) left = top = right = bottom = 0;
    box[0] = left;
    box[1] = top;
    box[2] = right;
    box[3] = bottom;
}

int64_t area(const Rle& runs, int64_t index) {
    int64_t sum = 0;
    for (int64_t i = runs.offsets[index] + 1; i < runs.offsets[index + 1]; i += 2) {
        sum += runs.counts[i];
    }
    return sum;
}

void rle_check(Rle runs) {
    for (int64_t index = 0; index < runs.masks; ++index) {
        int64_t sum = 0;
        for (int64_t i = runs.offsets[index]; i < runs.offsets[index + 1]; ++i) {
            sum += runs.counts[i];
        }
        if (sum == runs.size.area()) continue;
        throw std::invalid_argument(
            "the run lengths of mask " + std::to_string(index) + " sum to " + std::to_string(sum) +
            ", not to height * width = " + std::to_string(runs.size.height) + " * " +
            std::to_string(runs.size.width) + " = " + std::to_string(runs.size.area()));
    }
}

void rle_areas(Rle runs, int64_t* out) {
    rle_check(runs);
    for (int64_t index = 0; index < runs.masks; ++index) out[index] = area(runs, index);
}

void rle_boxes(Rle runs, int64_t* out) {
    rle_check(runs);
    for (int64_t index = 0; index < runs.masks; ++index) write_box(runs, index, out + index * 4);
}

void rle_to_array(Rle runs, uint8_t* out, int threads) {
    rle_check(runs);
    const int64_t pixels = runs.size.area();
    const double work = 0.1 * static_cast<double>(runs.masks * pixels);
    parallel_for(team_size(threads, runs.masks, work), runs.masks, [&] {
        return [&](int64_t index) { write_array(runs, index, out + index * pixels); };
    });
}

void rle_from_array(Planes<const uint8_t> masks, const RleOut& out, int threads) {
    const Size size{masks.height, masks.width};
    std::vector<Counts> lists(static_cast<size_t>(masks.count));
    const double work = 0.2 * static_cast<double>(masks.count * size.area());
    parallel_for(team_size(threads, masks.count, work), masks.count, [&] {
        return [&, reader = ArrayReader(size)](int64_t index) mutable {
            reader.read(masks.plane(index), lists[static_cast<size_t>(index)]);
        };
    });
    join(lists, out.counts, out.offsets);
}

}  // namespace fastseg::cpu
