// Compiled instead of the bfloat16 pass where no kernel table has bfloat16 operands.
#include <stdexcept>

#include "cpu/sam_encoder/passes.h"

namespace fastseg::cpu::sam_encoder {

void embed_bf16(const Model&, const float*, float*, int) {
    throw std::invalid_argument("this build multiplies no bfloat16");
}

}  // namespace fastseg::cpu::sam_encoder
