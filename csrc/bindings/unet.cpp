#include "cpu/echo_unet/unet.h"

#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>

#include "bindings/arrays.h"
#include "bindings/module.h"
#include "bindings/released_gil.h"
#include "bindings/weights.h"

namespace fastseg::bindings {

using namespace nb::literals;

namespace {

using cpu::echo_unet::Unet;

std::unique_ptr<Unet> unet_open(const nb::dict& weights, int64_t side,
                                const std::string& kernel_table) {
    const cpu::nn::Weights found = weights_by_name(weights);
    const ReleasedGil released;
    return std::make_unique<Unet>(found, side, kernel_table);
}

void unet_run(const Unet& unet, const In<float, 4>& frames, const Out<float, 4>& probabilities,
              int threads) {
    unet.run(frames.data(), static_cast<int64_t>(frames.shape(0)), probabilities.data(), threads);
}

}  // namespace

void add_unet(nb::module_& module) {
    using Guard = nb::call_guard<ReleasedGil>;
    nb::class_<Unet>(module, "Unet");
    module.def("unet_unsupported_reason", &cpu::echo_unet::unsupported_reason, "width"_a,
               "channels"_a, "classes"_a, "side"_a);
    module.def("unet_open", &unet_open, "weights"_a, "side"_a, "kernel_table"_a);
    module.def("unet_channels", &Unet::channels, "unet"_a);
    module.def("unet_classes", &Unet::classes, "unet"_a);
    module.def("unet_run", &unet_run, "unet"_a, "frames"_a.noconvert(),
               "probabilities"_a.noconvert(), "threads"_a, Guard());
}

}  // namespace fastseg::bindings
