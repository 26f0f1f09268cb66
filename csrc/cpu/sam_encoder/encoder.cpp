#include "cpu/sam_encoder/encoder.h"

#include <stdexcept>

#include "cpu/sam_encoder/passes.h"

namespace fastseg::cpu::sam_encoder {
namespace {

const nn::KernelTable& table_named(const std::string& name) {
    const nn::KernelTable* found = nn::find_kernel_table(name.c_str());
    if (!found) throw std::invalid_argument("this processor has no table " + name);
    return *found;
}

}  // namespace

Encoder::Encoder(const Weights& weights, const std::string& kernel_table)
    : model_(weights, table_named(kernel_table)) {}

void Encoder::run(const float* image, float* embedding, float* features, int threads) const {
    if (model_.table.bf16)
        embed_bf16(model_, image, embedding, threads);
    else
        embed_f32(model_, image, embedding, features, threads);
}

}  // namespace fastseg::cpu::sam_encoder
