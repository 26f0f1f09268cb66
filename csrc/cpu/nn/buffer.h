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
    // Filled with zeros.
    explicit Buffer(int64_t bytes) : Buffer(unwritten(bytes)) {
        __builtin_memset(data_.get(), 0, static_cast<size_t>(bytes) + slack);
    }
    // Memory that is written before it is read. Of large buffers, the thread that writes a page
    // first is then the one for which the system clears it.
    static Buffer unwritten(int64_t bytes) {
        Buffer made;
        made.data_.reset(allocate(static_cast<size_t>(bytes)));
        return made;
    }

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
        return static_cast<std::byte*>(::operator new[](bytes + slack, std::align_val_t(line)));
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
