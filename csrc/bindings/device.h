// The functions of a device's table, for the module that holds the device.
#pragma once

#include <nanobind/nanobind.h>

#include "device_kernels.h"

namespace fastseg::bindings {

// Arrays are addresses in the device's memory: fastseg.cuda.kernels checks that they fit.
void add_device(nanobind::module_& module, const DeviceKernels& kernels);

}  // namespace fastseg::bindings
