#include "cuda/queue.h"
#include "device/table.h"

namespace fastseg {

const DeviceKernels& cuda_kernels() {
    static constexpr DeviceKernels table =
        device::Operations<cuda::Queue>::table("cuda", Memory::cuda);
    return table;
}

}  // namespace fastseg
