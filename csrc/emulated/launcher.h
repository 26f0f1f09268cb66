// A device that is none: blocks and threads take their turns in a loop, when they are launched.
#pragma once

#include <memory>

#include "device/block.h"
#include "device_kernels.h"

namespace fastseg::emulated {

// The stream says in which order blocks, and threads within a step, take their turns: null is from
// the first to the last, anything else from the last to the first. A kernel whose result depends
// on it would depend on the weather on a real device.
class Launcher {
  public:
    explicit Launcher(Stream stream) : backwards_(stream != nullptr) {}

    template <class Kernel>
    void launch(Kernel kernel, device::Grid grid) const {
        const auto shared = std::make_unique<typename Kernel::Shared>();
        const int64_t blocks = grid.x * grid.y;
        for (int64_t i = 0; i < blocks; ++i) {
            const int64_t index = backwards_ ? blocks - 1 - i : i;
            kernel(device::Block<Kernel::threads>{index % grid.x, index / grid.x, backwards_},
                   *shared);
        }
    }

  private:
    bool backwards_;
};

}  // namespace fastseg::emulated
