#include "cpu/support/team.h"

#include <algorithm>
#include <chrono>
#include <stdexcept>

#include "cpu/support/parallel.h"

namespace fastseg::cpu {
namespace {

// A loop is one value, so that a thread which comes late takes an item of the loop that there is,
// and never of one that has ended: from the highest bit its number, its items and the next of them.
constexpr int next_bits = 20, items_bits = 20;
constexpr uint64_t next_mask = (uint64_t{1} << next_bits) - 1;
constexpr int64_t most_items = int64_t{1} << (next_bits - 1);  // threads look beyond the last one

uint64_t number_of(uint64_t loop) {
    return loop >> (next_bits + items_bits);
}
int64_t items_of(uint64_t loop) {
    return static_cast<int64_t>(loop >> next_bits & next_mask);
}
int64_t next_of(uint64_t loop) {
    return static_cast<int64_t>(loop & next_mask);
}
uint64_t loop_after(uint64_t loop, int64_t items) {
    return (number_of(loop) + 1) << (next_bits + items_bits) | static_cast<uint64_t>(items)
                                                                   << next_bits;
}

// Longer than most loops of one thread between two of all; waking a thread takes as long.
constexpr std::chrono::microseconds spinning{100};

void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Wait for some time at most; true if it came true.
template <class Condition>
bool spin_until(const Condition& condition) {
    const auto end = std::chrono::steady_clock::now() + spinning;
    do {
        for (int look = 0; look < 16; ++look) {
            if (condition()) return true;
            pause();
        }
    } while (std::chrono::steady_clock::now() < end);
    return false;
}

}  // namespace

// Threads that look out for work would take the cores of others where there are too few.
Team::Team(int threads)
    : size_(std::max(1, threads)),
      spins_(size_ <= usable_cores()),
      followers_(start_threads(size_ - 1, [this](int thread) { follow(thread); })) {}

// A loop without items ends the followers.
Team::~Team() {
    start(nullptr, 0);
    for (std::thread& follower : followers_) follower.join();
}

void Team::run(int64_t items, const Body& body) {
    if (items > most_items) throw std::length_error("a loop of too many items");
    if (followers_.empty() || items < 2) {
        for (int64_t item = 0; item < items; ++item) body(0, item);
        return;
    }
    done_ = 0;
    start(&body, items);
    work(0);
    wait_for_items(items);
    failure_.rethrow();
}

void Team::start(const Body* body, int64_t items) {
    body_ = body;
    loop_ = loop_after(loop_, items);
    loop_.notify_all();
}

void Team::follow(int thread) {
    for (uint64_t last = 0;;) {
        last = wait_for_loop(last);
        if (items_of(last) == 0) return;
        work(thread);
    }
}

void Team::work(int thread) {
    for (;;) {
        const uint64_t loop = loop_++;
        const int64_t items = items_of(loop);
        if (next_of(loop) >= items) return;
        failure_.guard([&] { (*body_)(thread, next_of(loop)); });
        if (++done_ == items) done_.notify_all();
    }
}

uint64_t Team::wait_for_loop(uint64_t last) const {
    const auto started = [&] { return number_of(loop_) != number_of(last); };
    if (spins_ && spin_until(started)) return loop_;
    for (uint64_t loop = loop_; number_of(loop) == number_of(last); loop = loop_) loop_.wait(loop);
    return loop_;
}

void Team::wait_for_items(int64_t items) const {
    if (spins_ && spin_until([&] { return done_ == items; })) return;
    for (int64_t done = done_; done < items; done = done_) done_.wait(done);
}

}  // namespace fastseg::cpu
