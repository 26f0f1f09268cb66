// Threads that live for one call and share its loops, one after another. A loop of microseconds is
// worth sharing, since the threads are there already and look out for it.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

#include "cpu/support/first_failure.h"

namespace fastseg::cpu {

class Team {
  public:
    using Body = std::function<void(int thread, int64_t item)>;

    // The thread that makes it leads; threads - 1 others are started.
    explicit Team(int threads);
    ~Team();
    Team(const Team&) = delete;
    Team& operator=(const Team&) = delete;

    // Threads that bodies may be called by: numbers below this are given to them.
    int size() const { return size_; }

    // Call `body` for every item below `items`, each once, in any order; returns when all are done,
    // and rethrows what one threw. Only the leader may call it, and not from a body.
    void run(int64_t items, const Body& body);

  private:
    void start(const Body* body, int64_t items);
    void follow(int thread);
    // Take items of the current loop until none is left.
    void work(int thread);
    // The loop that follows the last one.
    uint64_t wait_for_loop(uint64_t last) const;
    void wait_for_items(int64_t items) const;

    const int size_;
    const bool spins_;               // before it sleeps
    const Body* body_ = nullptr;     // of the current loop
    std::atomic<uint64_t> loop_{0};  // the current one
    std::atomic<int64_t> done_{0};   // items of it
    FirstFailure failure_;
    std::vector<std::thread> followers_;  // last: they use the rest
};

}  // namespace fastseg::cpu
