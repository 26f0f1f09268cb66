// The toolkit and the architectures of the CUDA kernels, and the number of devices.
#pragma once

#include <string>

namespace fastseg::cuda {

std::string architectures();  // as CMake writes them, "80-real,87-real,90"
std::string toolkit();        // "13.0"

// Throws std::runtime_error saying why there is none: no driver, no device, too old a driver.
int device_count();

}  // namespace fastseg::cuda
