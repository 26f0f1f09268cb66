// The form of a kernel that both a graphics processor and a plain loop run.
//
// A kernel is a struct with its arguments, `threads` (of a block), `Shared` (memory that a block's
// threads have in common) and `operator()(block, shared)`. It does its work in steps: all threads
// of the block finish one before any begins the next, and steps pass values to each other in
// memory alone. On the device a step ends with __syncthreads(); on the host it is a loop.
#pragma once

#include <cstdint>

#include "common/host_device.h"

namespace fastseg::device {

struct Grid {
    int64_t x, y = 1;  // blocks
};

struct Nothing {};

template <int threads_>
struct Block {
    static constexpr int threads = threads_;

    int64_t x, y;            // of this block in its grid
    bool backwards = false;  // on the host, whether threads take their turns from the last one on

    template <class Step>
    FASTSEG_HOST_DEVICE void step(Step step) const {
#ifdef __CUDA_ARCH__
        step(static_cast<int>(threadIdx.x));
        __syncthreads();
#else
        for (int i = 0; i < threads; ++i) step(backwards ? threads - 1 - i : i);
#endif
    }

    // A step in which this block's threads take one item each of the `count` items that all
    // blocks along x share.
    template <class Body>
    FASTSEG_HOST_DEVICE void each(int64_t count, Body body) const {
        step([&](int t) {
            const int64_t i = x * threads + t;
            if (i < count) body(i);
        });
    }
};

FASTSEG_HOST_DEVICE constexpr int64_t blocks_for(int64_t work, int64_t threads) {
    return (work + threads - 1) / threads;
}

// Sums and extremes that threads of several blocks collect. All are of whole numbers, so their
// order does not show.
FASTSEG_HOST_DEVICE inline void collect_sum(uint32_t* total, uint32_t value) {
#ifdef __CUDA_ARCH__
    atomicAdd(total, value);
#else
    *total += value;
#endif
}

FASTSEG_HOST_DEVICE inline void collect_least(int32_t* least, int32_t value) {
#ifdef __CUDA_ARCH__
    atomicMin(least, value);
#else
    if (value < *least) *least = value;
#endif
}

FASTSEG_HOST_DEVICE inline void collect_greatest(int32_t* greatest, int32_t value) {
#ifdef __CUDA_ARCH__
    atomicMax(greatest, value);
#else
    if (value > *greatest) *greatest = value;
#endif
}

constexpr int rounds_of(int threads) {
    return threads == 1 ? 0 : 1 + rounds_of(threads / 2);
}

// Exclusive prefix sums of one value a thread, by Hillis and Steele between two rows of memory.
template <class T, int threads>
struct PrefixSums {
    static_assert((threads & (threads - 1)) == 0);
    static constexpr int last = rounds_of(threads) & 1;  // the row that the last round writes

    T rows[2][threads];
    T total;

    // `value(thread)` is what a thread adds; afterwards `before(thread)` is the sum before it.
    // A step must lie between the last read of one result and the next computation.
    template <class Value>
    FASTSEG_HOST_DEVICE void compute(const Block<threads>& block, Value value) {
        block.step([&](int t) { rows[0][t] = value(t); });
        int from = 0;
        for (int distance = 1; distance < threads; distance *= 2, from ^= 1) {
            block.step([&](int t) {
                const T here = rows[from][t];
                rows[from ^ 1][t] = t >= distance ? here + rows[from][t - distance] : here;
            });
        }
        block.step([&](int t) {
            if (t == threads - 1) total = rows[last][t];
        });
    }

    FASTSEG_HOST_DEVICE T before(int thread) const {
        return thread > 0 ? rows[last][thread - 1] : T{};
    }
};

}  // namespace fastseg::device
