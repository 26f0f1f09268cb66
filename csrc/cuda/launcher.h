// Launching kernels on a CUDA stream.
#pragma once

#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>

#include "device/block.h"
#include "device_kernels.h"

namespace fastseg::cuda {

inline void check(cudaError_t status, const char* what) {
    if (status == cudaSuccess) return;
    throw std::runtime_error(std::string("CUDA: ") + what + ": " + cudaGetErrorString(status));
}

// Blocks are numbered in one row and take their place in the grid from it: a grid of CUDA may have
// 2^31 blocks along x, and no more than 65535 along y, which images have rows.
template <class Kernel>
__global__ void __launch_bounds__(Kernel::threads) run(Kernel kernel, uint32_t width) {
    __shared__ typename Kernel::Shared shared;
    kernel(device::Block<Kernel::threads>{blockIdx.x % width, blockIdx.x / width}, shared);
}

class Launcher {
  public:
    explicit Launcher(Stream stream) : stream_(static_cast<cudaStream_t>(stream)) {}

    template <class Kernel>
    void launch(Kernel kernel, device::Grid grid) const {
        const int64_t blocks = grid.x * grid.y;
        if (blocks == 0) return;
        if (blocks > INT32_MAX) throw std::invalid_argument("too much work for one launch");
        run<<<static_cast<unsigned>(blocks), Kernel::threads, 0, stream_>>>(
            kernel, static_cast<uint32_t>(grid.x));
        check(cudaGetLastError(), "a kernel was not launched");
    }

  private:
    cudaStream_t stream_;
};

}  // namespace fastseg::cuda
