// The echo U-Net as a native kernel: frames to probabilities. All is float32, or operands of
// products and feature maps are bfloat16. Results do not depend on the number of threads.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "cpu/echo_unet/network.h"

namespace fastseg::cpu::echo_unet {

class Unet {
  public:
    // `kernel_table` by name: AMX, or any with float32 operands. Malformed weights, and a table
    // that this processor lacks, throw std::invalid_argument.
    Unet(const nn::Weights& weights, int64_t side, const std::string& kernel_table);
    ~Unet();

    int64_t side() const { return sizes_.side; }
    int64_t channels() const { return sizes_.channels; }
    int64_t classes() const { return sizes_.classes; }

    // frames [count, channels, side, side] to probabilities [count, classes, side, side].
    void run(const float* frames, int64_t count, float* probabilities, int threads) const;

  private:
    class WorkspaceLease;

    static constexpr int max_idle = 16;

    Sizes sizes_;
    std::unique_ptr<Network> network_;
    // Forward passes that no call uses, for the next one. No lock, so that a fork is harmless.
    mutable std::atomic<ForwardPass*> idle_[max_idle] = {};
};

}  // namespace fastseg::cpu::echo_unet
