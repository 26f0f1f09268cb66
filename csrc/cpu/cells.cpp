#include "cpu/cells.h"

#include <algorithm>
#include <cstring>

#include "cpu/multiversion.h"

namespace fastseg::cpu {
namespace {

constexpr size_t padding = 16;
constexpr uint8_t no_key = 0xff;

FASTSEG_MULTIVERSION
void rank(const float* logits, int64_t count, const Margin* margins, uint8_t* above,
          uint8_t* reached) {
    const float above0 = margins[0].above, above1 = margins[1].above, above2 = margins[2].above;
    const float below0 = margins[0].below, below1 = margins[1].below, below2 = margins[2].below;
    for (int64_t i = 0; i < count; ++i) {
        const float logit = logits[i];
        above[i] = static_cast<uint8_t>((logit > above0) + (logit > above1) + (logit > above2));
        reached[i] = static_cast<uint8_t>((logit > below0) + (logit > below1) + (logit > below2));
    }
}

// Least of three rows; the last value is repeated twice behind them.
FASTSEG_MULTIVERSION
void least_of_rows(const uint8_t* const rows[taps], int64_t width, uint8_t* out) {
    const uint8_t *a = rows[0], *b = rows[1], *c = rows[2];
    for (int64_t x = 0; x < width; ++x) out[x] = std::min(std::min(a[x], b[x]), c[x]);
    out[width] = out[width + 1] = out[width - 1];
}

FASTSEG_MULTIVERSION
void most_of_rows(const uint8_t* const rows[taps], int64_t width, uint8_t* out) {
    const uint8_t *a = rows[0], *b = rows[1], *c = rows[2];
    for (int64_t x = 0; x < width; ++x) out[x] = std::max(std::max(a[x], b[x]), c[x]);
    out[width] = out[width + 1] = out[width - 1];
}

// Finish the cells of a row and flag those that need an event.
FASTSEG_MULTIVERSION
void combine_columns(uint8_t* __restrict least, uint8_t* __restrict most, uint8_t* __restrict key,
                     uint8_t* __restrict changed, int64_t width) {
    for (int64_t x = 0; x < width; ++x) {
        const uint8_t low = std::min(std::min(least[x], least[x + 1]), least[x + 2]);
        const uint8_t high = std::max(std::max(most[x], most[x + 1]), most[x + 2]);
        const uint8_t now = static_cast<uint8_t>(low + 4 * high);
        changed[x] = static_cast<uint8_t>((now != key[x]) | (low != high));
        key[x] = now;
    }
}

}  // namespace

CellSorter::CellSorter(Size low, const Axis& vertical, Thresholds thresholds)
    : low_(low),
      vertical_(vertical),
      margins_{margin(thresholds.low), margin(thresholds.middle), margin(thresholds.high)},
      above_(static_cast<size_t>(low.area())),
      reached_(above_.size()),
      least_(static_cast<size_t>(low.width) + padding),
      most_(least_.size()),
      changed_(least_.size(), 0),
      key_(least_.size()),
      events_(static_cast<size_t>(low.width)) {}

void CellSorter::sort(const float* logits) {
    rank(logits, low_.area(), margins_, above_.data(), reached_.data());
    for (std::vector<Event>& list : events_) list.clear();
    std::fill(key_.begin(), key_.end(), no_key);
    for (size_t cell = 0; cell < vertical_.cells.size(); ++cell) {
        const int64_t first = vertical_.cells[cell].first;
        const uint8_t* above[taps];
        const uint8_t* reached[taps];
        for (int64_t tap = 0; tap < taps; ++tap) {
            const int64_t row = std::min(first + tap, low_.height - 1);
            above[tap] = above_.data() + row * low_.width;
            reached[tap] = reached_.data() + row * low_.width;
        }
        least_of_rows(above, low_.width, least_.data());
        most_of_rows(reached, low_.width, most_.data());
        combine_columns(least_.data(), most_.data(), key_.data(), changed_.data(), low_.width);
        find_events(static_cast<int32_t>(cell));
    }
}

void CellSorter::find_events(int32_t cell) {
    for (int64_t x = 0; x < low_.width; x += 8) {
        uint64_t eight;
        std::memcpy(&eight, changed_.data() + x, sizeof(eight));
        if (eight == 0) continue;
        for (int64_t i = x; i < std::min(x + 8, low_.width); ++i) {
            const size_t column = static_cast<size_t>(i);
            if (!changed_[column]) continue;
            const uint8_t key = key_[column];
            events_[column].push_back(
                {cell, static_cast<uint8_t>(key & 3), static_cast<uint8_t>(key >> 2)});
        }
    }
}

}  // namespace fastseg::cpu
