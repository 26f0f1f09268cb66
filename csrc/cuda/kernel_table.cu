#include "cuda/launcher.h"
#include "device/kernel_table.h"

namespace fastseg {

const DeviceKernels& cuda_kernels() {
    static constexpr DeviceKernels table = device::Operations<cuda::Launcher>::kernels("cuda");
    return table;
}

}  // namespace fastseg
