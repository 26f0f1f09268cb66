#include "cuda/build.h"
#include "cuda/launcher.h"

namespace fastseg::cuda {

std::string architectures() {
    return FASTSEG_CUDA_ARCHITECTURES;
}

std::string toolkit() {
    return std::to_string(CUDART_VERSION / 1000) + "." + std::to_string(CUDART_VERSION % 1000 / 10);
}

int device_count() {
    int count = 0;
    check(cudaGetDeviceCount(&count), "no device can be used");
    return count;
}

}  // namespace fastseg::cuda
