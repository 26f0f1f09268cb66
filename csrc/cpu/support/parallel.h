// Loops over threads that live for one call: no pool, so a fork at any time is harmless.
#pragma once

#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

namespace fastseg::cpu {

// Cores that the process may run on.
int usable_cores();

// The number of threads for a call: `wanted` (0: as many as the process may run on), but at most
// `items`, and at most as many as pay off when the call takes about `nanoseconds` on one thread.
int team_size(int wanted, int64_t items, double nanoseconds);

// Start `count` threads, or as many as the system gives: worker(1), worker(2) and so on.
std::vector<std::thread> start_threads(int count, const std::function<void(int)>& worker);

// Run `worker` on `threads` threads at once, this one being the first; rethrows what one threw.
void run_team(int threads, const std::function<void()>& worker);

// Call `body(index)` for every index below `items`, each once, in any order. A thread asks
// `make_body` for a body of its own, which may own scratch memory.
void parallel_for(int threads, int64_t items,
                  const std::function<std::function<void(int64_t)>()>& make_body);

}  // namespace fastseg::cpu
