#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include "bindings/device.h"
#include "cuda/build.h"

NB_MODULE(_cuda, module) {
    module.doc() =
        "The native kernels for CUDA devices; fastseg.cuda.kernels checks their arguments.";
    nanobind::module_::import_("fastseg._core");  // which has the types of the arguments
    module.attr("architectures") = fastseg::cuda::architectures();
    module.attr("toolkit") = fastseg::cuda::toolkit();
    module.def("device_count", &fastseg::cuda::device_count);
    fastseg::bindings::add_device(module, fastseg::cuda_kernels());
}
