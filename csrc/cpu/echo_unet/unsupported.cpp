// Compiled instead of the bfloat16 network where there is no AMX.
#include <stdexcept>

#include "cpu/echo_unet/network.h"

namespace fastseg::cpu::echo_unet {

std::unique_ptr<Network> open_bf16(const nn::Weights&, const Sizes&, const nn::KernelTable&) {
    throw std::invalid_argument("this build has no AMX");
}

}  // namespace fastseg::cpu::echo_unet
