// The masks that remain, one behind the other: all that travels back to the host.
#pragma once

#include "device/block.h"
#include "device_kernels.h"

namespace fastseg::device {

// Offsets of the run lengths of each kept mask. One block, so that the order is that of `kept`.
struct PlaceRuns {
    static constexpr int threads = 256;
    struct Shared {
        PrefixSums<int64_t, threads> sums;
    };
    Candidates candidates;
    const int32_t* kept;
    const int32_t* kept_count;
    Survivors out;

    FASTSEG_HOST_DEVICE void operator()(Block<threads> block, Shared& shared) const {
        const int64_t count = *kept_count;
        int64_t begin = 0;
        for (int64_t tile = 0; tile < count; tile += threads) {
            shared.sums.compute(block, [&](int t) {
                return tile + t < count ? candidates.records[kept[tile + t]].length : int64_t{0};
            });
            block.step([&](int t) {
                if (tile + t >= count) return;
                MaskRecord record = candidates.records[kept[tile + t]];
                record.begin = begin + shared.sums.before(t);
                out.records[tile + t] = record;
            });
            begin += shared.sums.total;
            block.step([](int) {});  // before the next tile overwrites the sums
        }
        block.step([&](int t) {
            if (t == 0) *out.fill = {count, begin};
        });
    }
};

// A mask is shared by a few blocks; neighbouring threads have neighbouring run lengths.
struct WriteRuns {
    static constexpr int threads = 256, blocks_a_mask = 4;
    using Shared = Nothing;
    Candidates candidates;
    const int32_t* kept;
    const int32_t* kept_count;
    Survivors out;

    FASTSEG_HOST_DEVICE void operator()(Block<threads> block, Shared&) const {
        if (block.y >= *kept_count) return;
        const MaskRecord& record = out.records[block.y];
        const uint32_t* positions = candidates.positions + candidates.records[kept[block.y]].begin;
        uint32_t* counts = out.counts + record.begin;
        block.step([&](int t) {
            for (int64_t i = block.x * threads + t; i < record.length;
                 i += int64_t{threads} * blocks_a_mask) {
                counts[i] = positions[i] - (i > 0 ? positions[i - 1] : 0);
            }
        });
    }
};

template <class Launcher>
void join_runs(Launcher launcher, Candidates candidates, const int32_t* kept,
               const int32_t* kept_count, Survivors out) {
    launcher.launch(PlaceRuns{candidates, kept, kept_count, out}, {1});
    launcher.launch(WriteRuns{candidates, kept, kept_count, out},
                    {WriteRuns::blocks_a_mask, candidates.mask_capacity});
}

}  // namespace fastseg::device
