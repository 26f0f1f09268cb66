#include "cpu/echo_unet/unet.h"

#include <stdexcept>

#include "cpu/echo_unet/forward.h"
#include "cpu/support/parallel.h"

namespace fastseg::cpu::echo_unet {
namespace {

const nn::KernelTable& tiles() {
    const nn::KernelTable* found = nn::find_kernel_table("amx-bf16");
    if (!found) throw std::invalid_argument("this processor has no AMX");
    return *found;
}

}  // namespace

// The maps of a passage for the time of a call.
class Unet::Loan {
  public:
    explicit Loan(const Unet& owner) : owner_(owner) {
        for (auto& place : owner.idle_)
            if (Passage* found = place.exchange(nullptr)) {
                passage_.reset(found);
                return;
            }
        passage_ = std::make_unique<Passage>(owner.model_);
    }
    Loan(const Loan&) = delete;
    ~Loan() {
        for (auto& place : owner_.idle_) {
            Passage* nothing = nullptr;
            if (place.compare_exchange_strong(nothing, passage_.get())) {
                static_cast<void>(passage_.release());
                return;
            }
        }
    }

    Passage* operator->() const { return passage_.get(); }

  private:
    const Unet& owner_;
    std::unique_ptr<Passage> passage_;
};

Unet::Unet(const nn::Weights& weights, int64_t side) : model_(weights, side, tiles()) {}

Unet::~Unet() {
    for (auto& place : idle_) delete place.load();
}

// As many frames at once as there are threads; for those that are left, threads go together.
void Unet::run(const float* frames, int64_t count, float* probabilities, int threads) const {
    const int64_t pixels = side() * side();
    const int crew = team_size(threads, pixels, 1e9);
    const int64_t alone = count - count % crew;
    const auto pass = [&](const Loan& loan, int64_t frame, int helpers) {
        loan->run(frames + frame * channels() * pixels, probabilities + frame * classes() * pixels,
                  helpers);
    };
    share(team_size(crew, alone, 1e9), alone, [&]() -> std::function<void(int64_t)> {
        return [&, loan = std::make_shared<Loan>(*this)](int64_t frame) { pass(*loan, frame, 1); };
    });
    if (alone == count) return;
    const Loan loan(*this);
    for (int64_t frame = alone; frame < count; ++frame) pass(loan, frame, crew);
}

}  // namespace fastseg::cpu::echo_unet
