// Functions that a processor and its graphics processor both run, from the same source.
#pragma once

#ifdef __CUDACC__
#define FASTSEG_HOST_DEVICE __host__ __device__
#else
#define FASTSEG_HOST_DEVICE
#endif
