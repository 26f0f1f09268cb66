#include "cpu/support/parallel.h"

#include <algorithm>
#include <atomic>
#include <system_error>

#include "cpu/support/first_failure.h"

#ifdef __linux__
#include <sched.h>
#endif

namespace fastseg::cpu {
namespace {

// Below this a thread costs more to start than it saves.
constexpr double nanoseconds_per_thread = 100'000.0;

}  // namespace

int usable_cores() {
#ifdef __linux__
    cpu_set_t cores;
    if (sched_getaffinity(0, sizeof(cores), &cores) == 0) return std::max(1, CPU_COUNT(&cores));
#endif
    return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

int team_size(int wanted, int64_t items, double nanoseconds) {
    const double paying = std::clamp(nanoseconds / nanoseconds_per_thread, 1.0, 1024.0);
    const int64_t limit = std::max<int64_t>(1, std::min(items, static_cast<int64_t>(paying)));
    const int threads = wanted > 0 ? wanted : usable_cores();
    return static_cast<int>(std::min<int64_t>(threads, limit));
}

std::vector<std::thread> start_threads(int count, const std::function<void(int)>& worker) {
    std::vector<std::thread> started;
    started.reserve(static_cast<size_t>(std::max(0, count)));
    try {
        for (int thread = 1; thread <= count; ++thread) started.emplace_back(worker, thread);
    } catch (const std::system_error&) {
        // The system gives no more threads: the ones at hand do all the work.
    }
    return started;
}

void run_team(int threads, const std::function<void()>& worker) {
    FirstFailure failure;
    const auto guarded = [&](int) { failure.guard(worker); };
    std::vector<std::thread> others = start_threads(threads - 1, guarded);
    guarded(0);
    for (std::thread& other : others) other.join();
    failure.rethrow();
}

void parallel_for(int threads, int64_t items,
                  const std::function<std::function<void(int64_t)>()>& make_body) {
    std::atomic<int64_t> next{0};
    run_team(threads, [&] {
        const std::function<void(int64_t)> body = make_body();
        for (int64_t index = next++; index < items; index = next++) body(index);
    });
}

}  // namespace fastseg::cpu
