// Float32 with AVX-512.
#define FASTSEG_LANES 16
#define FASTSEG_ROWS 12
#include "cpu/nn/kernels_f32.h"

namespace fastseg::cpu::nn {

extern const Table avx512_table = float_table("avx512");

}  // namespace fastseg::cpu::nn
