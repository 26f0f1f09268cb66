// Compiled instead of the U-Net where there is no AMX.
#include <stdexcept>

#include "cpu/echo_unet/unet.h"

namespace fastseg::cpu::echo_unet {
namespace {

[[noreturn]] void fail_unsupported() {
    throw std::invalid_argument("this build has no AMX");
}

}  // namespace

std::string unsupported_reason(int64_t, int64_t, int64_t, int64_t) {
    return "this build has no AMX";
}

Model::Model(const nn::Weights&, int64_t, const nn::KernelTable& table) : table(table) {
    fail_unsupported();
}

Unet::Unet(const nn::Weights& weights, int64_t side)
    : model_(weights, side, **nn::kernel_tables()) {}

Unet::~Unet() = default;

void Unet::run(const float*, int64_t, float*, int) const {
    fail_unsupported();
}

}  // namespace fastseg::cpu::echo_unet
