// DLPack capsules of any device, taken and given.
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include "bindings/addresses.h"
#include "bindings/arrays.h"
#include "bindings/module.h"

namespace fastseg::bindings {

using namespace nb::literals;

namespace {

// An array of another library, which is told that it is no longer needed when this goes.
struct TakenArray {
    nb::ndarray<> array;

    Address address() const { return reinterpret_cast<Address>(array.data()); }

    std::vector<int64_t> shape() const {
        return {array.shape_ptr(), array.shape_ptr() + array.ndim()};
    }

    // In elements.
    std::vector<int64_t> strides() const {
        return {array.stride_ptr(), array.stride_ptr() + array.ndim()};
    }

    // Code, bits, lanes.
    std::tuple<int, int, int> dtype() const {
        const nb::dlpack::dtype found = array.dtype();
        return {found.code, found.bits, found.lanes};
    }

    // Kind and number.
    std::tuple<int, int> device() const { return {array.device_type(), array.device_id()}; }
};

TakenArray dlpack_take(nb::capsule capsule) {
    nb::ndarray<> array;
    if (!nb::try_cast(capsule, array))
        throw std::invalid_argument("the capsule holds no array, or it was taken already");
    return {std::move(array)};
}

// The owner is kept until whoever takes the dense array, or the capsule, is done with it.
nb::ndarray<> dlpack_give(Address address, const std::vector<size_t>& shape,
                          std::tuple<uint8_t, uint8_t> code_and_bits, std::tuple<int, int> device,
                          nb::handle owner) {
    const auto [code, bits] = code_and_bits;
    const auto [kind, number] = device;
    return {at<void>(address),
            shape.size(),
            shape.data(),
            owner,
            nullptr,
            nb::dlpack::dtype{code, bits, 1},
            kind,
            number};
}

}  // namespace

void add_dlpack(nb::module_& module) {
    nb::class_<TakenArray>(module, "TakenArray")
        .def_prop_ro("address", &TakenArray::address)
        .def_prop_ro("shape", &TakenArray::shape)
        .def_prop_ro("strides", &TakenArray::strides)
        .def_prop_ro("dtype", &TakenArray::dtype)
        .def_prop_ro("device", &TakenArray::device);
    module.def("dlpack_take", &dlpack_take, "capsule"_a);
    module.def("dlpack_give", &dlpack_give, "address"_a, "shape"_a, "code_and_bits"_a, "device"_a,
               "owner"_a.none());
}

}  // namespace fastseg::bindings
