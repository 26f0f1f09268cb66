#include "device/kernel_table.h"

#include "emulated/launcher.h"

namespace fastseg {

const DeviceKernels& emulated_kernels() {
    static constexpr DeviceKernels table =
        device::Operations<emulated::Launcher>::kernels("emulated");
    return table;
}

}  // namespace fastseg
