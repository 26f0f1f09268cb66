// Legs of work that threads do together, one leg after another: each starts when the last one is
// done. Threads live for all legs, since a frame has too many of them to start threads for each.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>

namespace fastseg::cpu::echo_unet {

class Relay {
  public:
    // Before any runner is there.
    void begin() {
        for (Leg& leg : legs_) leg.next = leg.done = 0;
    }

    class Runner;

  private:
    static constexpr int most = 32;

    // Counted in items, not in threads: one that comes late, or never, keeps nobody waiting.
    struct Leg {
        std::atomic<int> next, done;
    };

    Leg legs_[most];
};

// A thread's part. Every runner of a relay asks for the same legs in the same order.
class Relay::Runner {
  public:
    explicit Runner(Relay& relay) : leg_(relay.legs_) {}

    // Call `body(item)` for those items that nobody else takes; returns when all are done.
    template <class Body>
    void each(int64_t items, const Body& body) {
        const int count = static_cast<int>(items);
        Leg& leg = *leg_++;
        for (int item = leg.next++; item < count; item = leg.next++) {
            try {
                body(item);
            } catch (...) {
                failure_ = std::current_exception();
            }
            if (++leg.done == count) leg.done.notify_all();
        }
        for (int done = leg.done; done < count; done = leg.done) leg.done.wait(done);
    }

    // After the last leg: others would wait for one who threw before.
    void finish() const {
        if (failure_) std::rethrow_exception(failure_);
    }

  private:
    Leg* leg_;
    std::exception_ptr failure_;
};

}  // namespace fastseg::cpu::echo_unet
