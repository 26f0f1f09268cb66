// Compiled instead of the encoder where no kernel table has bfloat16 operands.
#include <stdexcept>

#include "cpu/sam_encoder/encoder.h"

namespace fastseg::cpu::sam_encoder {
namespace {

[[noreturn]] void fail_unsupported() {
    throw std::invalid_argument("this build multiplies no bfloat16");
}

}  // namespace

Model::Model(const Weights&, const nn::KernelTable& table) : table(table) {
    fail_unsupported();
}

Encoder::Encoder(const Weights& weights, const std::string&)
    : model_(weights, **nn::kernel_tables()) {}

void Encoder::run(const float*, float*, int) const {
    fail_unsupported();
}

}  // namespace fastseg::cpu::sam_encoder
