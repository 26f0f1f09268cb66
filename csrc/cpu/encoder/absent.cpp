// Compiled instead of the encoder where no table has bfloat16 operands.
#include <stdexcept>

#include "cpu/encoder/encoder.h"

namespace fastseg::cpu::encoder {
namespace {

[[noreturn]] void refuse() {
    throw std::invalid_argument("this build multiplies no bfloat16");
}

}  // namespace

Encoder::Encoder(const Weights& weights, const std::string&)
    : model_(weights, (refuse(), **decoder::tables())) {}

void Encoder::run(const float*, float*, int) const {
    refuse();
}

}  // namespace fastseg::cpu::encoder
