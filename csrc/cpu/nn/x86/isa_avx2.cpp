// Float32 with AVX2 and fused multiply-add.
#define FASTSEG_LANES 8
#define FASTSEG_ROWS 6
#include "cpu/nn/kernels_f32.h"

namespace fastseg::cpu::nn {

extern const KernelTable avx2_kernels = f32_kernels("avx2");

}  // namespace fastseg::cpu::nn
