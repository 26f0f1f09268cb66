#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include "bindings/arrays.h"
#include "bindings/module.h"
#include "bindings/released_gil.h"
#include "cpu/masks/row_threshold.h"

namespace fastseg::bindings {

using namespace nb::literals;

namespace {

using Text = nb::bytes;
using HeightWidth = std::tuple<int64_t, int64_t>;
using Array32 = nb::ndarray<uint32_t, nb::numpy, nb::ndim<1>>;
using Array64 = nb::ndarray<int64_t, nb::numpy, nb::ndim<1>>;
using ArrayPoints = nb::ndarray<int32_t, nb::numpy, nb::ndim<1>>;

Rle rle_of(const In<uint32_t, 1>& counts, const In<int64_t, 1>& offsets, HeightWidth size) {
    const auto [height, width] = size;
    return {
        counts.data(), offsets.data(), static_cast<int64_t>(offsets.shape(0)) - 1, {height, width}};
}

// Joined run lengths: counts, then the offsets that were filled in place.
Array32 binarise(const nb::ndarray<const float, nb::numpy, nb::ndim<3>, nb::device::cpu>& logits,
                 const In<int64_t, 1>& chosen, const Frame& frame,
                 const std::tuple<float, float, float>& thresholds, const Out<int64_t, 1>& offsets,
                 const Out<int64_t, 1>& areas, const Out<int64_t, 2>& boxes,
                 const Out<float, 1>& stability, int threads, std::string_view kernel) {
    const auto [low, middle, high] = thresholds;
    const Planes<const float> planes{logits.data(),
                                     static_cast<int64_t>(chosen.shape(0)),
                                     static_cast<int64_t>(logits.shape(1)),
                                     static_cast<int64_t>(logits.shape(2)),
                                     logits.stride(0),
                                     chosen.data()};
    Grown<uint32_t> counts;
    {
        const ReleasedGil released;
        cpu::binarise(
            planes, frame, {low, middle, high},
            {{counts.allocate(), offsets.data()}, areas.data(), boxes.data(), stability.data()},
            threads, kernel);
    }
    return counts.array();
}

std::vector<std::string> row_threshold_kernel_names() {
    std::vector<std::string> names;
    for (const cpu::RowThresholdKernel* const* kernel = cpu::row_threshold_kernels(); *kernel;
         ++kernel) {
        names.emplace_back((*kernel)->name);
    }
    return names;
}

void rle_check(const In<uint32_t, 1>& counts, const In<int64_t, 1>& offsets, HeightWidth size) {
    cpu::rle_check(rle_of(counts, offsets, size));
}

void rle_areas(const In<uint32_t, 1>& counts, const In<int64_t, 1>& offsets, HeightWidth size,
               const Out<int64_t, 1>& out) {
    cpu::rle_areas(rle_of(counts, offsets, size), out.data());
}

void rle_boxes(const In<uint32_t, 1>& counts, const In<int64_t, 1>& offsets, HeightWidth size,
               const Out<int64_t, 2>& out) {
    cpu::rle_boxes(rle_of(counts, offsets, size), out.data());
}

void rle_to_array(const In<uint32_t, 1>& counts, const In<int64_t, 1>& offsets,
                  const Out<uint8_t, 3>& out, int threads) {
    const HeightWidth size{out.shape(1), out.shape(2)};
    cpu::rle_to_array(rle_of(counts, offsets, size), out.data(), threads);
}

Array32 rle_from_array(const In<uint8_t, 3>& masks, const Out<int64_t, 1>& offsets, int threads) {
    const int64_t height = static_cast<int64_t>(masks.shape(1));
    const int64_t width = static_cast<int64_t>(masks.shape(2));
    const Planes<const uint8_t> planes{masks.data(), static_cast<int64_t>(masks.shape(0)), height,
                                       width, height * width};
    Grown<uint32_t> counts;
    {
        const ReleasedGil released;
        cpu::rle_from_array(planes, {counts.allocate(), offsets.data()}, threads);
    }
    return counts.array();
}

Text rle_to_strings(const In<uint32_t, 1>& counts, const In<int64_t, 1>& offsets, HeightWidth size,
                    const Out<int64_t, 1>& text_offsets) {
    Grown<char> text;
    {
        const ReleasedGil released;
        cpu::rle_to_strings(rle_of(counts, offsets, size), {text.allocate(), text_offsets.data()});
    }
    return text.bytes();
}

Array32 rle_from_strings(const Text& text, const In<int64_t, 1>& text_offsets, HeightWidth size,
                         const Out<int64_t, 1>& offsets) {
    const Strings texts{text.c_str(), text_offsets.data(),
                        static_cast<int64_t>(text_offsets.shape(0)) - 1};
    const auto [height, width] = size;
    Grown<uint32_t> counts;
    {
        const ReleasedGil released;
        cpu::rle_from_strings(texts, {height, width}, {counts.allocate(), offsets.data()});
    }
    return counts.array();
}

std::tuple<ArrayPoints, Array64> rle_polygons(const In<uint32_t, 1>& counts,
                                              const In<int64_t, 1>& offsets, HeightWidth size,
                                              const Out<int64_t, 1>& mask_offsets, int threads) {
    Grown<int32_t> points;
    Grown<int64_t> ring_offsets;
    {
        const ReleasedGil released;
        cpu::rle_polygons(rle_of(counts, offsets, size),
                          {points.allocate(), ring_offsets.allocate(), mask_offsets.data()},
                          threads);
    }
    return {points.array(), ring_offsets.array()};
}

Array32 rle_remove_small_regions(const In<uint32_t, 1>& counts, const In<int64_t, 1>& offsets,
                                 HeightWidth size, std::tuple<double, bool> min_area_and_islands,
                                 const Out<int64_t, 1>& new_offsets, const Out<uint8_t, 1>& changed,
                                 int threads) {
    const auto [min_area, islands] = min_area_and_islands;
    const SmallRegions what{min_area, islands ? Regions::islands : Regions::holes};
    Grown<uint32_t> grown;
    {
        const ReleasedGil released;
        cpu::rle_remove_small_regions(rle_of(counts, offsets, size), what,
                                      {grown.allocate(), new_offsets.data()}, changed.data(),
                                      threads);
    }
    return grown.array();
}

void rle_iou(const In<uint32_t, 1>& counts_a, const In<int64_t, 1>& offsets_a,
             const In<uint32_t, 1>& counts_b, const In<int64_t, 1>& offsets_b, HeightWidth size,
             const Out<double, 2>& out, int threads) {
    cpu::rle_iou(rle_of(counts_a, offsets_a, size), rle_of(counts_b, offsets_b, size), out.data(),
                 threads);
}

Planes<const uint8_t> planes_of(const In<uint8_t, 3>& masks) {
    const auto count = static_cast<int64_t>(masks.shape(0));
    const auto height = static_cast<int64_t>(masks.shape(1));
    const auto width = static_cast<int64_t>(masks.shape(2));
    return {masks.data(), count, height, width, height * width};
}

void distance_transform(const In<uint8_t, 3>& masks, bool exact, std::tuple<double, double> spacing,
                        const Out<double, 3>& out, int threads) {
    const auto [rows, columns] = spacing;
    const Metric metric = exact ? Metric::exact : Metric::chamfer;
    cpu::distance_transform(planes_of(masks), {metric, rows, columns}, out.data(), threads);
}

void label_components(const In<uint8_t, 3>& masks, const Out<int32_t, 3>& out,
                      const Out<int64_t, 1>& counts, int threads) {
    cpu::label_components(planes_of(masks), out.data(), counts.data(), threads);
}

}  // namespace

void add_masks(nb::module_& module) {
    using Guard = nb::call_guard<ReleasedGil>;
    const auto counts = "counts"_a.noconvert();
    const auto offsets = "offsets"_a.noconvert();
    const auto out = "out"_a.noconvert();
    module.def("binarise", &binarise, "logits"_a.noconvert(), "chosen"_a.noconvert(), "frame"_a,
               "thresholds"_a, offsets, "areas"_a.noconvert(), "boxes"_a.noconvert(),
               "stability"_a.noconvert(), "threads"_a, "kernel"_a);
    module.def("row_threshold_kernels", &row_threshold_kernel_names);
    module.def("rle_check", &rle_check, counts, offsets, "size"_a, Guard());
    module.def("rle_areas", &rle_areas, counts, offsets, "size"_a, out, Guard());
    module.def("rle_boxes", &rle_boxes, counts, offsets, "size"_a, out, Guard());
    module.def("rle_to_array", &rle_to_array, counts, offsets, out, "threads"_a, Guard());
    module.def("rle_from_array", &rle_from_array, "masks"_a.noconvert(), offsets, "threads"_a);
    module.def("rle_to_strings", &rle_to_strings, counts, offsets, "size"_a,
               "text_offsets"_a.noconvert());
    module.def("rle_from_strings", &rle_from_strings, "text"_a, "text_offsets"_a.noconvert(),
               "size"_a, offsets);
    module.def("rle_polygons", &rle_polygons, counts, offsets, "size"_a,
               "mask_offsets"_a.noconvert(), "threads"_a);
    module.def("rle_remove_small_regions", &rle_remove_small_regions, counts, offsets, "size"_a,
               "min_area_and_islands"_a, "new_offsets"_a.noconvert(), "changed"_a.noconvert(),
               "threads"_a);
    module.def("rle_iou", &rle_iou, "counts_a"_a.noconvert(), "offsets_a"_a.noconvert(),
               "counts_b"_a.noconvert(), "offsets_b"_a.noconvert(), "size"_a, out, "threads"_a,
               Guard());
    module.def("distance_transform", &distance_transform, "masks"_a.noconvert(), "exact"_a,
               "spacing"_a, out, "threads"_a, Guard());
    module.def("label_components", &label_components, "masks"_a.noconvert(), out,
               "counts"_a.noconvert(), "threads"_a, Guard());
}

}  // namespace fastseg::bindings
