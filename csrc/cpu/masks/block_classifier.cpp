#include "cpu/masks/block_classifier.h"

#include <algorithm>

#include "cpu/support/multiversion.h"

namespace fastseg::cpu {
namespace {

FASTSEG_MULTIVERSION
void begin_range(const float* __restrict row, int64_t width, float* __restrict least,
                 float* __restrict most) {
    for (int64_t x = 0; x < width; ++x) least[x] = most[x] = finite(row[x]);
}

FASTSEG_MULTIVERSION
void widen_range(const float* __restrict row, int64_t width, float* __restrict least,
                 float* __restrict most) {
    for (int64_t x = 0; x < width; ++x) {
        const float logit = finite(row[x]);
        least[x] = logit < least[x] ? logit : least[x];
        most[x] = logit > most[x] ? logit : most[x];
    }
}

// Three columns together are a block; `least` and `most` go on behind their ends. Returns all
// levels, joined.
FASTSEG_MULTIVERSION
Level find_levels(const float* __restrict least, const float* __restrict most, int64_t width,
                  const Margin* margins, Level* __restrict levels, Level* __restrict occupied) {
    const float above0 = margins[0].above, above1 = margins[1].above, above2 = margins[2].above;
    const float below0 = margins[0].below, below1 = margins[1].below, below2 = margins[2].below;
    Level joined = 0;
    for (int64_t x = 0; x < width; ++x) {
        const float low = std::min(std::min(least[x], least[x + 1]), least[x + 2]);
        const float high = std::max(std::max(most[x], most[x + 1]), most[x + 2]);
        const int passed = (low > above0) + (low > above1) + (low > above2);
        const int reached = (high > below0) + (high > below1) + (high > below2);
        const Level level = passed == reached ? static_cast<Level>(passed) : undecided;
        levels[x] = level;
        occupied[x] |= level;
        joined |= level;
    }
    return joined;
}

}  // namespace

BlockClassifier::BlockClassifier(Size low, const Rows& rows, Thresholds thresholds)
    : low_(low),
      rows_(rows),
      margins_{margin(thresholds.low), margin(thresholds.middle), margin(thresholds.high)},
      least_(static_cast<size_t>(low.width + taps - 1)),
      most_(least_.size()),
      levels_(static_cast<size_t>(rows.blocks() * low.width)),
      occupied_(static_cast<size_t>(low.width)) {}

void BlockClassifier::classify(const float* logits) {
    const int64_t width = low_.width;
    std::fill(occupied_.begin(), occupied_.end(), Level{0});
    begin_ = low_.height;
    end_ = 0;
    for (int64_t block = 0; block < rows_.blocks(); ++block) {
        const int64_t first = rows_.first[static_cast<size_t>(block)];
        const int64_t end = std::min<int64_t>(rows_.end[static_cast<size_t>(block)], low_.height);
        begin_range(logits + first * width, width, least_.data(), most_.data());
        for (int64_t row = first + 1; row < end; ++row) {
            widen_range(logits + row * width, width, least_.data(), most_.data());
        }
        for (std::vector<float>* list : {&least_, &most_}) {
            std::fill_n(list->end() - (taps - 1), taps - 1, *(list->end() - taps));
        }
        const Level joined = find_levels(least_.data(), most_.data(), width, margins_,
                                         levels_.data() + block * width, occupied_.data());
        if (joined & undecided) {
            begin_ = std::min(begin_, first);
            end_ = end;
        }
    }
}

}  // namespace fastseg::cpu
