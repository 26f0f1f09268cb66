// Tile registers of a kernel table, configured while a thread works. Guards may be nested.
#pragma once

#include "cpu/nn/kernels.h"

namespace fastseg::cpu::nn {

class TileConfigGuard {
  public:
    explicit TileConfigGuard(const KernelTable& table) : table_(table) {
        if (depth_++ == 0) table_.configure_tiles();
    }
    ~TileConfigGuard() {
        if (--depth_ == 0) table_.release_tiles();
    }
    TileConfigGuard(const TileConfigGuard&) = delete;
    TileConfigGuard& operator=(const TileConfigGuard&) = delete;

  private:
    static inline thread_local int depth_ = 0;
    const KernelTable& table_;
};

}  // namespace fastseg::cpu::nn
