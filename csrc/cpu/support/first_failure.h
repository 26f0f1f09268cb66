// The first exception of several threads, for the one that waits for them.
#pragma once

#include <exception>
#include <mutex>
#include <utility>

namespace fastseg::cpu {

class FirstFailure {
  public:
    // Call `work`, and keep what it throws unless something is kept already.
    template <class Work>
    void guard(const Work& work) {
        try {
            work();
        } catch (...) {
            const std::lock_guard lock(mutex_);
            if (!failure_) failure_ = std::current_exception();
        }
    }

    // Throw what is kept, once; after the other threads have ended their work.
    void rethrow() {
        if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
    }

  private:
    std::exception_ptr failure_;
    std::mutex mutex_;
};

}  // namespace fastseg::cpu
