// Tasks in phases that threads work on together: a phase starts when the one before it is done.
// Threads live for all phases, since a frame has too many of them to start threads for each.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>

namespace fastseg::cpu::echo_unet {

class PhasedTasks {
  public:
    // Before any participant exists.
    void begin() {
        for (Phase& phase : phases_) phase.next = phase.done = 0;
    }

    class Participant;

  private:
    static constexpr int most = 64;

    // Counted in tasks, not in threads: a thread that comes late, or never, delays no other.
    struct Phase {
        std::atomic<int> next, done;
    };

    Phase phases_[most];
};

// The part of one thread. Every participant runs the same phases in the same order.
class PhasedTasks::Participant {
  public:
    explicit Participant(PhasedTasks& tasks) : phase_(tasks.phases_) {}

    // Call `body(item)` for the items that no other thread takes; returns when all are done.
    template <class Body>
    void run_phase(int64_t items, const Body& body) {
        const int count = static_cast<int>(items);
        Phase& phase = *phase_++;
        for (int item = phase.next++; item < count; item = phase.next++) {
            try {
                body(item);
            } catch (...) {
                failure_ = std::current_exception();
            }
            if (++phase.done == count) phase.done.notify_all();
        }
        for (int done = phase.done; done < count; done = phase.done) phase.done.wait(done);
    }

    // After the last phase: other threads would wait for one that threw before.
    void finish() const {
        if (failure_) std::rethrow_exception(failure_);
    }

  private:
    Phase* phase_;
    std::exception_ptr failure_;
};

}  // namespace fastseg::cpu::echo_unet
