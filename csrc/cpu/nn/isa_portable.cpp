// Float32 in vectors of 128 bits, which every processor has: SSE2 on x86-64, NEON on 64-bit ARM.
#define FASTSEG_LANES 4
#ifdef __aarch64__
#define FASTSEG_ROWS 8
#else
#define FASTSEG_ROWS 6
#endif
#include "cpu/nn/kernels_f32.h"

namespace fastseg::cpu::nn {

#ifdef __aarch64__
extern const KernelTable portable_kernels = f32_kernels("neon");
#else
extern const KernelTable portable_kernels = f32_kernels("portable");
#endif

}  // namespace fastseg::cpu::nn
