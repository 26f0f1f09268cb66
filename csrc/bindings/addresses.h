// Addresses in a device's memory, as Python holds them.
#pragma once

#include <cstdint>

namespace fastseg::bindings {

using Address = uintptr_t;

template <class T>
T* at(Address address) {
    return reinterpret_cast<T*>(address);
}

}  // namespace fastseg::bindings
