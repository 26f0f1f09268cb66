// Overlapping candidates dropped on the device: sorted by rank, compared all with all, resolved.
//
// Sorting by counting who comes before is quadratic and has no data-dependent step: thousands of
// boxes take microseconds, equal scores keep their order, and the host learns nothing. Overlaps
// become bits, 64 to a word; one block then goes through the words in order of score.
#pragma once

#include <cmath>
#include <limits>
#include <type_traits>

#include "common/box_math.h"
#include "device/block.h"
#include "device_kernels.h"

namespace fastseg::device {

constexpr int word_bits = 64;

struct SortedBox {
    FloatBox box;
    float area;
};

struct NmsPlan {
    int64_t words;         // of one row of overlaps
    SortedBox* boxes;      // [mask_capacity]
    int32_t* order;        // [mask_capacity]
    uint64_t* overlaps;    // [mask_capacity, words]
    uint64_t* suppressed;  // [words]
    int64_t total;

    NmsPlan(int64_t capacity, void* workspace) : words(blocks_for(capacity, word_bits)) {
        char* address = static_cast<char*>(workspace);
        const auto take = [&](auto*& array, int64_t count) {
            array = reinterpret_cast<std::remove_reference_t<decltype(array)>>(address);
            address += count * int64_t{sizeof(*array)};
        };
        take(overlaps, capacity * words);
        take(suppressed, words);
        take(boxes, capacity);
        take(order, capacity);
        total = address - static_cast<char*>(workspace);
    }
};

// The number of masks in the list.
FASTSEG_HOST_DEVICE inline int64_t count_of(const Candidates& candidates) {
    return lesser_of(candidates.fill->masks, candidates.mask_capacity);
}

struct SortByScore {
    static constexpr int threads = 128;
    struct Shared {
        float scores[threads];
        int32_t rank[threads];
    };
    Candidates candidates;
    SortedBox* boxes;
    int32_t* order;

    FASTSEG_HOST_DEVICE void operator()(Block<threads> block, Shared& shared) const {
        const int64_t count = count_of(candidates), first = block.x * threads;
        if (first >= count) return;
        block.step([&](int t) { shared.rank[t] = 0; });
        for (int64_t tile = 0; tile < count; tile += threads) {
            block.step([&](int t) {
                if (tile + t < count) shared.scores[t] = candidates.records[tile + t].score;
            });
            block.step([&](int t) {
                const int64_t own = first + t;
                if (own >= count) return;
                const float score = candidates.records[own].score;
                const int others = static_cast<int>(lesser_of(count - tile, int64_t{threads}));
                int32_t before = 0;
                for (int i = 0; i < others; ++i) {
                    const float other = shared.scores[i];
                    before += scores_higher(other, score) ||
                              (tile + i < own && !scores_higher(score, other));
                }
                shared.rank[t] += before;
            });
        }
        block.step([&](int t) {
            if (first + t >= count) return;
            const int32_t* box = candidates.records[first + t].box;
            const FloatBox sorted{static_cast<float>(box[0]), static_cast<float>(box[1]),
                                  static_cast<float>(box[2]), static_cast<float>(box[3])};
            boxes[shared.rank[t]] = {sorted, sorted.area()};
            order[shared.rank[t]] = static_cast<int32_t>(first + t);
        });
    }
};

// Bit i of word w of row r: box 64 w + i comes after box r and overlaps it.
struct CompareBoxes {
    static constexpr int threads = word_bits;
    struct Shared {
        SortedBox others[threads];
    };
    Candidates candidates;
    const SortedBox* boxes;
    float iou_threshold;
    int64_t words;
    uint64_t* overlaps;

    FASTSEG_HOST_DEVICE void operator()(Block<threads> block, Shared& shared) const {
        const int64_t count = count_of(candidates);
        const int64_t row_first = block.y * word_bits, first = block.x * word_bits;
        if (row_first >= count || first >= count || block.x < block.y) return;
        const int others = static_cast<int>(lesser_of(count - first, int64_t{word_bits}));
        block.step([&](int t) {
            if (t < others) shared.others[t] = boxes[first + t];
        });
        block.step([&](int t) {
            const int64_t row = row_first + t;
            if (row >= count) return;
            const SortedBox own = boxes[row];
            uint64_t word = 0;
            for (int i = 0; i < others; ++i) {
                const SortedBox& other = shared.others[i];
                const bool suppresses = first + i > row && box_overlap(own.box, own.area, other.box,
                                                                       other.area) > iou_threshold;
                word |= static_cast<uint64_t>(suppresses) << i;
            }
            overlaps[row * words + block.x] = word;
        });
    }
};

// Of 64 boxes in order, those that no kept one suppresses; `suppressed` are hidden by earlier
// words.
FASTSEG_HOST_DEVICE inline uint64_t resolve_word(const uint64_t* suppresses, int count,
                                                 uint64_t suppressed) {
    uint64_t kept = 0;
    for (int i = 0; i < count; ++i) {
        if (suppressed >> i & 1) continue;
        kept |= uint64_t{1} << i;
        suppressed |= suppresses[i];
    }
    return kept;
}

FASTSEG_HOST_DEVICE inline int bits_in(uint64_t word) {
#ifdef __CUDA_ARCH__
    return __popcll(word);
#else
    return __builtin_popcountll(word);
#endif
}

struct ResolveBoxes {
    static constexpr int threads = 256;
    struct Shared {
        uint64_t suppresses[word_bits];
        uint64_t kept;
    };
    Candidates candidates;
    const int32_t* order;
    int64_t words;
    const uint64_t* overlaps;
    uint64_t* suppressed;
    int32_t* kept;
    int32_t* kept_count;

    FASTSEG_HOST_DEVICE void operator()(Block<threads> block, Shared& shared) const {
        const int64_t count = count_of(candidates), used = blocks_for(count, word_bits);
        int32_t found = 0;
        block.step([&](int t) {
            for (int64_t word = t; word < used; word += threads) suppressed[word] = 0;
        });
        for (int64_t word = 0; word < used; ++word) {
            const int64_t first = word * word_bits;
            const int here = static_cast<int>(lesser_of(count - first, int64_t{word_bits}));
            block.step([&](int t) {
                if (t < here) shared.suppresses[t] = overlaps[(first + t) * words + word];
            });
            block.step([&](int t) {
                if (t == 0) shared.kept = resolve_word(shared.suppresses, here, suppressed[word]);
            });
            block.step([&](int t) {
                for (int64_t later = word + 1 + t; later < used; later += threads) {
                    uint64_t hidden = 0;
                    for (int i = 0; i < here; ++i) {
                        const bool is_kept = shared.kept >> i & 1;
                        if (is_kept) hidden |= overlaps[(first + i) * words + later];
                    }
                    suppressed[later] |= hidden;
                }
                if (t < here && (shared.kept >> t & 1)) {
                    const uint64_t before = shared.kept & ((uint64_t{1} << t) - 1);
                    kept[found + bits_in(before)] = order[first + t];
                }
            });
            found += bits_in(shared.kept);
            block.step([](int) {});  // before the next word overwrites what is shared
        }
        block.step([&](int t) {
            if (t == 0) *kept_count = found;
        });
    }
};

// A float32 is greater than a double exactly if it is greater than the next float32 below.
inline float float_below(double threshold) {
    const float nearest = static_cast<float>(threshold);
    if (static_cast<double>(nearest) <= threshold) return nearest;
    return std::nextafter(nearest, -std::numeric_limits<float>::infinity());
}

inline int64_t box_nms_workspace(int64_t mask_capacity) {
    return NmsPlan(mask_capacity, nullptr).total;
}

template <class Launcher>
void box_nms(Launcher launcher, Candidates candidates, double iou_threshold, int32_t* kept,
             int32_t* kept_count, void* workspace) {
    const NmsPlan plan(candidates.mask_capacity, workspace);
    launcher.launch(SortByScore{candidates, plan.boxes, plan.order},
                    {blocks_for(candidates.mask_capacity, SortByScore::threads)});
    launcher.launch(
        CompareBoxes{candidates, plan.boxes, float_below(iou_threshold), plan.words, plan.overlaps},
        {plan.words, plan.words});
    launcher.launch(ResolveBoxes{candidates, plan.order, plan.words, plan.overlaps, plan.suppressed,
                                 kept, kept_count},
                    {1});
}

}  // namespace fastseg::device
