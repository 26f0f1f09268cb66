// An emulated device: blocks and threads run one after another in a loop when they are launched.
#pragma once

#include <memory>

#include "device/block.h"
#include "device_kernels.h"

namespace fastseg::emulated {

// The stream sets the order of blocks, and of threads within a step: null is from the first to the
// last, anything else from the last to the first. A kernel whose result depends on it would not be
// deterministic on a real device.
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
