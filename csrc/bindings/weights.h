// Weights by name, as Python holds them.
#pragma once

#include <string>

#include "bindings/arrays.h"
#include "cpu/nn/weights.h"

namespace fastseg::bindings {

// Views of float32 arrays of any shapes; what is made of them copies what it needs.
inline cpu::nn::Weights weights_by_name(const nb::dict& weights) {
    using AnyFloats = nb::ndarray<const float, nb::numpy, nb::c_contig, nb::device::cpu>;
    cpu::nn::Weights found;
    for (const auto& [name, array] : weights) {
        const auto floats = nb::cast<AnyFloats>(array, false);
        std::vector<int64_t> shape;
        for (size_t axis = 0; axis < floats.ndim(); ++axis)
            shape.push_back(static_cast<int64_t>(floats.shape(axis)));
        found[nb::cast<std::string>(name)] = {floats.data(), std::move(shape)};
    }
    return found;
}

}  // namespace fastseg::bindings
