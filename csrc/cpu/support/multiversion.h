// Functions compiled for several widths of vectors, chosen when the module is loaded. The
// arithmetic is the same in all of them, so the results are too. The thread sanitizer is not ready
// yet when the choice is made.
#pragma once

#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_THREAD__)
#define FASTSEG_MULTIVERSION \
    __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define FASTSEG_MULTIVERSION
#endif
