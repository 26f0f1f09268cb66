// Float32 with AVX-512.
#define FASTSEG_LANES 16
#define FASTSEG_ROWS 12
#include "cpu/nn/kernels_f32.h"

namespace fastseg::cpu::nn {

extern const KernelTable avx512_kernels = f32_kernels("avx512");

}  // namespace fastseg::cpu::nn
