#include <nanobind/stl/tuple.h>

#include "bindings/arrays.h"
#include "bindings/module.h"
#include "bindings/released_gil.h"

namespace fastseg::bindings {

using namespace nb::literals;

namespace {

int64_t box_nms(const In<float, 2>& boxes, const In<float, 1>& scores, double iou_threshold,
                const Out<int64_t, 1>& kept) {
    return cpu::box_nms({boxes.data(), static_cast<int64_t>(boxes.shape(0))}, scores.data(),
                        iou_threshold, kept.data());
}

void near_crop_edge(const In<int64_t, 2>& boxes, const Frame& frame, double tolerance,
                    const Out<uint8_t, 1>& out) {
    cpu::near_crop_edge(boxes.data(), static_cast<int64_t>(boxes.shape(0)), frame, tolerance,
                        out.data());
}

}  // namespace

void add_boxes(nb::module_& module) {
    module.def("box_nms", &box_nms, "boxes"_a.noconvert(), "scores"_a.noconvert(),
               "iou_threshold"_a, "kept"_a.noconvert(), nb::call_guard<ReleasedGil>());
    module.def("near_crop_edge", &near_crop_edge, "boxes"_a.noconvert(), "frame"_a, "tolerance"_a,
               "out"_a.noconvert(), nb::call_guard<ReleasedGil>());
}

}  // namespace fastseg::bindings
