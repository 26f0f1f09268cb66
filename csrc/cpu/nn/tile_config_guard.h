// Registers of a table, held while a thread works; a thread may hold them more than once.
#pragma once

#include "cpu/nn/kernels.h"

namespace fastseg::cpu::nn {

class Working {
  public:
    explicit Working(const Table& table) : table_(table) {
        if (depth_++ == 0) table_.begin();
    }
    ~Working() {
        if (--depth_ == 0) table_.end();
    }
    Working(const Working&) = delete;
    Working& operator=(const Working&) = delete;

  private:
    static inline thread_local int depth_ = 0;
    const Table& table_;
};

}  // namespace fastseg::cpu::nn
