// NumPy arrays on their way in and out of the kernels.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstdint>
#include <memory>

#include "kernels.h"

namespace fastseg::bindings {

namespace nb = nanobind;

// A C-contiguous array on the CPU that is only read.
template <class T, int dimensions>
using In = nb::ndarray<const T, nb::numpy, nb::ndim<dimensions>, nb::c_contig, nb::device::cpu>;

// A C-contiguous array on the CPU that is written in place.
template <class T, int dimensions>
using Out = nb::ndarray<T, nb::numpy, nb::ndim<dimensions>, nb::c_contig, nb::device::cpu>;

// Memory that a kernel asks for while it runs without the GIL, and that becomes an array after.
template <class T>
class Grown {
  public:
    Allocate<T> allocate() {
        return [this](int64_t count) {
            count_ = static_cast<size_t>(count);
            data_ = std::make_unique_for_overwrite<T[]>(count_);
            return data_.get();
        };
    }

    nb::ndarray<T, nb::numpy, nb::ndim<1>> array() {
        T* data = data_.release();
        nb::capsule owner(data, [](void* pointer) noexcept { delete[] static_cast<T*>(pointer); });
        return nb::ndarray<T, nb::numpy, nb::ndim<1>>(data, {count_}, owner);
    }

    nb::bytes bytes() const { return nb::bytes(data_.get(), count_ * sizeof(T)); }

  private:
    size_t count_ = 0;
    std::unique_ptr<T[]> data_;
};

}  // namespace fastseg::bindings
