// Memory for operands: aligned to cache lines, with room to read a vector beyond the end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

namespace fastseg::cpu::nn {

class Buffer {
  public:
    Buffer() = default;
    explicit Buffer(int64_t bytes) : data_(allocate(static_cast<size_t>(bytes))) {}

    float* floats() const { return reinterpret_cast<float*>(data_.get()); }
    std::byte* bytes() const { return data_.get(); }
    explicit operator bool() const { return data_ != nullptr; }

  private:
    static constexpr size_t line = 64, slack = 256;

    struct Free {
        void operator()(std::byte* data) const {
            ::operator delete[](data, std::align_val_t(line));
        }
    };

    static std::byte* allocate(size_t bytes) {
        void* data = ::operator new[](bytes + slack, std::align_val_t(line));
        return static_cast<std::byte*>(__builtin_memset(data, 0, bytes + slack));
    }

    std::unique_ptr<std::byte[], Free> data_;
};

// Prefetch memory into the second-level cache.
inline void prefetch(const void* data, int64_t bytes) {
    constexpr int64_t line = 64;
    for (int64_t at = 0; at < bytes; at += line)
        __builtin_prefetch(static_cast<const std::byte*>(data) + at, 0, 2);
}

inline Buffer float_buffer(int64_t count) {
    return Buffer(count * 4);
}

}  // namespace fastseg::cpu::nn
