// The echo U-Net as a native kernel with bfloat16 products in AMX: frames to probabilities. Sums
// and the sigmoid are float32, feature maps are bfloat16. Results do not depend
// on the number of threads.
#pragma once

#include <atomic>
#include <memory>

#include "cpu/echo_unet/model.h"

namespace fastseg::cpu::echo_unet {

class ForwardPass;

class Unet {
  public:
    // Throws std::invalid_argument for malformed weights and where there is no AMX.
    Unet(const nn::Weights& weights, int64_t side);
    ~Unet();

    int64_t side() const { return model_.side; }
    int64_t channels() const { return model_.channels; }
    int64_t classes() const { return model_.classes; }

    // frames [count, channels, side, side] to probabilities [count, classes, side, side].
    void run(const float* frames, int64_t count, float* probabilities, int threads) const;

  private:
    class WorkspaceLease;

    static constexpr int max_idle = 16;

    Model model_;
    // Forward passes that no call uses, for the next one. No lock, so that a fork is harmless.
    mutable std::atomic<ForwardPass*> idle_[max_idle] = {};
};

}  // namespace fastseg::cpu::echo_unet
