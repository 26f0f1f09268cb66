// Compiled instead of the U-Net where there is no AMX.
#include <stdexcept>

#include "cpu/unet/unet.h"

namespace fastseg::cpu::unet {
namespace {

[[noreturn]] void refuse() {
    throw std::invalid_argument("this build has no AMX");
}

}  // namespace

std::string misfit(int64_t, int64_t, int64_t, int64_t) {
    return "this build has no AMX";
}

Model::Model(const decoder::Weights&, int64_t, const decoder::Table& table) : table(table) {
    refuse();
}

Unet::Unet(const decoder::Weights& weights, int64_t side)
    : model_(weights, side, **decoder::tables()) {}

Unet::~Unet() = default;

void Unet::run(const float*, int64_t, float*, int) const {
    refuse();
}

}  // namespace fastseg::cpu::unet
