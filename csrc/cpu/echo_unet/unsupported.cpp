// Compiled instead of the U-Net where there is no AMX.
#include <stdexcept>

#include "cpu/echo_unet/unet.h"

namespace fastseg::cpu::echo_unet {
namespace {

[[noreturn]] void refuse() {
    throw std::invalid_argument("this build has no AMX");
}

}  // namespace

std::string misfit(int64_t, int64_t, int64_t, int64_t) {
    return "this build has no AMX";
}

Model::Model(const nn::Weights&, int64_t, const nn::KernelTable& table) : table(table) {
    refuse();
}

Unet::Unet(const nn::Weights& weights, int64_t side)
    : model_(weights, side, **nn::kernel_tables()) {}

Unet::~Unet() = default;

void Unet::run(const float*, int64_t, float*, int) const {
    refuse();
}

}  // namespace fastseg::cpu::echo_unet
