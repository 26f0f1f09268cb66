#include "bindings/arrays.h"
#include "bindings/module.h"

namespace fastseg::bindings {

using namespace nb::literals;

namespace {

void point_grid(const Out<double, 2>& out, int64_t per_side) {
    cpu_kernels().point_grid(per_side, out.data());
}

void pad_prompts(const In<float, 2>& points, const In<int32_t, 1>& labels,
                 const In<int64_t, 1>& offsets, const Out<float, 3>& padded_points,
                 const Out<int32_t, 2>& padded_labels) {
    const int64_t count = static_cast<int64_t>(offsets.shape(0)) - 1;
    const int64_t longest = static_cast<int64_t>(padded_labels.shape(1));
    cpu_kernels().pad_prompts({points.data(), labels.data(), offsets.data(), count},
                              {padded_points.data(), padded_labels.data(), longest});
}

}  // namespace

void add_prompts(nb::module_& module) {
    module.def("point_grid", &point_grid, "out"_a.noconvert(), "per_side"_a,
               nb::call_guard<nb::gil_scoped_release>());
    module.def("pad_prompts", &pad_prompts, "points"_a.noconvert(), "labels"_a.noconvert(),
               "offsets"_a.noconvert(), "padded_points"_a.noconvert(),
               "padded_labels"_a.noconvert(), nb::call_guard<nb::gil_scoped_release>());
}

}  // namespace fastseg::bindings
