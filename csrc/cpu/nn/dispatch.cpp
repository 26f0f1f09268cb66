// Kernel tables that this processor can run.
#include <cstring>

#include "cpu/nn/kernels.h"

#ifdef FASTSEG_X86_KERNELS
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace fastseg::cpu::nn {

extern const KernelTable portable_kernels;

#ifdef FASTSEG_X86_KERNELS
extern const KernelTable avx2_kernels, avx512_kernels, avx512_bf16_kernels, amx_kernels;

namespace {

bool has_avx2() {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

bool has_avx512() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

bool has_avx512_bf16() {
    return has_avx512() && __builtin_cpu_supports("avx512bf16");
}

// The registers of AMX are large, so Linux grants them only to processes that request them.
bool has_amx() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (!has_avx512_bf16() || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
    constexpr unsigned amx_bf16 = 1u << 22, amx_tile = 1u << 24;
    if (!(d & amx_bf16) || !(d & amx_tile)) return false;
    constexpr long request_permission = 0x1023, tile_data = 18;
    return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}

}  // namespace

const KernelTable* const* kernel_tables() {
    static const KernelTable* found[6] = {};
    static const bool filled = [] {
        const KernelTable** next = found;
        if (has_amx()) *next++ = &amx_kernels;
        if (has_avx512_bf16()) *next++ = &avx512_bf16_kernels;
        if (has_avx512()) *next++ = &avx512_kernels;
        if (has_avx2()) *next++ = &avx2_kernels;
        *next = &portable_kernels;
        return true;
    }();
    static_cast<void>(filled);
    return found;
}
#else
const KernelTable* const* kernel_tables() {
    static const KernelTable* found[2] = {&portable_kernels, nullptr};
    return found;
}
#endif

const KernelTable* find_kernel_table(const char* name) {
    for (const KernelTable* const* table = kernel_tables(); *table; ++table)
        if (std::strcmp((*table)->name, name) == 0) return *table;
    return nullptr;
}

}  // namespace fastseg::cpu::nn
