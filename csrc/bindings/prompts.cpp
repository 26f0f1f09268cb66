#include "bindings/arrays.h"
#include "bindings/module.h"
#include "bindings/released_gil.h"

namespace fastseg::bindings {

using namespace nb::literals;

namespace {

void point_grid(const Out<double, 2>& out, int64_t per_side) {
    cpu::point_grid(per_side, out.data());
}

}  // namespace

void add_prompts(nb::module_& module) {
    module.def("point_grid", &point_grid, "out"_a.noconvert(), "per_side"_a,
               nb::call_guard<ReleasedGil>());
}

}  // namespace fastseg::bindings
