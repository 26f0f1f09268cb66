// Plain values that several kernels take. _cuda finds their types in _core, which registers them.
#include <nanobind/stl/tuple.h>

#include <new>

#include "bindings/addresses.h"
#include "bindings/module.h"
#include "device_kernels.h"

namespace fastseg::bindings {

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using HeightWidth = std::tuple<int64_t, int64_t>;
using Box = std::tuple<int64_t, int64_t, int64_t, int64_t>;

void new_frame(Frame* self, HeightWidth image, Box crop, int64_t side, HeightWidth resized) {
    const auto [height, width] = image;
    const auto [x0, y0, x1, y1] = crop;
    const auto [resized_height, resized_width] = resized;
    new (self) Frame{{height, width}, x0, y0, x1, y1, side, {resized_height, resized_width}};
}

void new_logit_planes(LogitPlanes* self, Address data, bool fp16, int64_t count, HeightWidth size) {
    const auto [height, width] = size;
    new (self) LogitPlanes{at<const void>(data), fp16, count, height, width};
}

void new_candidates(Candidates* self, Address records, Address positions, Address fill,
                    int64_t mask_capacity, int64_t run_capacity) {
    new (self) Candidates{at<MaskRecord>(records), at<uint32_t>(positions), at<Fill>(fill),
                          mask_capacity, run_capacity};
}

void new_row_gather(RowGather* self, Address rows, Address row_count, int64_t first, int64_t size,
                    Address source, int64_t source_stride, int64_t row_bytes) {
    new (self)
        RowGather{at<const void>(source),       source_stride, row_bytes, at<const int32_t>(rows),
                  at<const int32_t>(row_count), first,         size};
}

// Reads an address of a value; the others of its numbers are only passed on.
template <class Value, class T>
auto address(T* Value::* member) {
    return [member](const Value& value) { return reinterpret_cast<Address>(value.*member); };
}

}  // namespace

void add_values(nb::module_& module) {
    nb::class_<Frame>(module, "Frame")
        .def("__init__", &new_frame, nb::kw_only(), "image"_a, "crop"_a, "side"_a, "resized"_a);
    nb::class_<LogitPlanes>(module, "LogitPlanes")
        .def("__init__", &new_logit_planes, nb::kw_only(), "data"_a, "fp16"_a, "count"_a, "size"_a)
        .def_prop_ro("data", address(&LogitPlanes::data));
    nb::class_<Candidates>(module, "Candidates")
        .def("__init__", &new_candidates, nb::kw_only(), "records"_a, "positions"_a, "fill"_a,
             "mask_capacity"_a, "run_capacity"_a)
        .def_prop_ro("records", address(&Candidates::records))
        .def_prop_ro("positions", address(&Candidates::positions))
        .def_prop_ro("fill", address(&Candidates::fill));
    nb::class_<RowGather>(module, "RowGather")
        .def("__init__", &new_row_gather, nb::kw_only(), "rows"_a, "row_count"_a, "first"_a,
             "size"_a, "source"_a = 0, "source_stride"_a = 0, "row_bytes"_a = 0)
        .def_prop_ro("rows", address(&RowGather::rows))
        .def_prop_ro("row_count", address(&RowGather::row_count))
        .def_prop_ro("source", address(&RowGather::source));
}

}  // namespace fastseg::bindings
