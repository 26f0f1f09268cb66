// The network in one precision: its weights, and the forward passes that read them.
#pragma once

#include <memory>

#include "cpu/echo_unet/sizes.h"
#include "cpu/nn/kernels.h"

namespace fastseg::cpu::echo_unet {

// The feature maps of a frame on its way through the network.
class ForwardPass {
  public:
    virtual ~ForwardPass() = default;

    // frame [channels, side, side] to probabilities [classes, side, side].
    virtual void run(const float* frame, float* probabilities, int threads) = 0;
};

class Network {
  public:
    virtual ~Network() = default;

    // The pass reads the weights of this network, which must outlive it.
    virtual std::unique_ptr<ForwardPass> make_pass() const = 0;
};

// `table` must have operands of that format. Malformed weights throw std::invalid_argument.
std::unique_ptr<Network> open_f32(const nn::Weights& weights, const Sizes& sizes,
                                  const nn::KernelTable& table);
std::unique_ptr<Network> open_bf16(const nn::Weights& weights, const Sizes& sizes,
                                   const nn::KernelTable& table);

}  // namespace fastseg::cpu::echo_unet
