#include "bindings/device.h"

#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>

#include <string>

#include "bindings/arrays.h"

namespace fastseg::bindings {

using namespace nb::literals;

namespace {

using Address = uintptr_t;
using Guard = nb::call_guard<nb::gil_scoped_release>;
using Triple = std::tuple<float, float, float>;

// records, positions, fill; how many masks and positions there is room for.
using CandidateNumbers = std::tuple<Address, Address, Address, int64_t, int64_t>;

// data, whether in fp16; planes, height, width.
using PlaneNumbers = std::tuple<Address, bool, int64_t, int64_t, int64_t>;

// source, stride, bytes of a row; rows, their number; first, size.
using GatherNumbers = std::tuple<Address, int64_t, int64_t, Address, Address, int64_t, int64_t>;

template <class T>
T* at(Address address) {
    return reinterpret_cast<T*>(address);
}

Candidates candidates_of(const CandidateNumbers& numbers) {
    const auto [records, positions, fill, masks, runs] = numbers;
    return {at<MaskRecord>(records), at<uint32_t>(positions), at<Fill>(fill), masks, runs};
}

RowGather gather_of(const GatherNumbers& numbers) {
    const auto [source, stride, bytes, rows, count, first, size] = numbers;
    return {at<const void>(source),   stride, bytes, at<const int32_t>(rows),
            at<const int32_t>(count), first,  size};
}

Normalisation normalisation_of(Triple mean, Triple deviation) {
    const auto [red, green, blue] = mean;
    const auto [red_deviation, green_deviation, blue_deviation] = deviation;
    return {{red, green, blue}, {red_deviation, green_deviation, blue_deviation}};
}

void add_prompts(nb::module_& module, const DeviceKernels& kernels) {
    module.def(
        "point_grid",
        [&kernels](int64_t per_side, Address out, Address stream) {
            kernels.point_grid(per_side, at<double>(out), at<void>(stream));
        },
        "per_side"_a, "out"_a, "stream"_a, Guard());
    module.def(
        "click_prompts",
        [&kernels](Address points, int64_t count, const FrameNumbers& frame, Address coords,
                   Address labels, Address stream) {
            kernels.click_prompts(at<const double>(points), count, frame_of(frame),
                                  at<float>(coords), at<int32_t>(labels), at<void>(stream));
        },
        "points"_a, "count"_a, "frame"_a, "coords"_a, "labels"_a, "stream"_a, Guard());
    module.def(
        "select_prompts",
        [&kernels](Address scores, int64_t count, float threshold, Address prompts,
                   Address prompt_count, Address stream) {
            kernels.select_prompts(at<const float>(scores), count, threshold, at<int32_t>(prompts),
                                   at<int32_t>(prompt_count), at<void>(stream));
        },
        "scores"_a, "count"_a, "threshold"_a, "prompts"_a, "prompt_count"_a, "stream"_a, Guard());
    module.def(
        "gather_rows",
        [&kernels](const GatherNumbers& gather, Address out, Address stream) {
            kernels.gather_rows(gather_of(gather), at<void>(out), at<void>(stream));
        },
        "gather"_a, "out"_a, "stream"_a, Guard());
    module.def(
        "label_planes",
        [&kernels](Address scores, const GatherNumbers& rows, float threshold, int64_t first_prompt,
                   Address labels, Address stream) {
            kernels.label_planes(at<const float>(scores), gather_of(rows), threshold, first_prompt,
                                 at<PlaneLabel>(labels), at<void>(stream));
        },
        "scores"_a, "rows"_a, "threshold"_a, "first_prompt"_a, "labels"_a, "stream"_a, Guard());
}

void add_masks(nb::module_& module, const DeviceKernels& kernels) {
    module.def(
        "binarise",
        [&kernels](const PlaneNumbers& logits, Address labels, const FrameNumbers& frame,
                   const Triple& thresholds, const std::tuple<float, double>& filter,
                   const CandidateNumbers& candidates, Address workspace, Address stream) {
            const auto [data, fp16, count, height, width] = logits;
            const auto [low, middle, high] = thresholds;
            const auto [least_stability, edge_tolerance] = filter;
            kernels.binarise({at<const void>(data), fp16, count, height, width},
                             at<const PlaneLabel>(labels), frame_of(frame), {low, middle, high},
                             {least_stability, edge_tolerance}, candidates_of(candidates),
                             at<void>(workspace), at<void>(stream));
        },
        "logits"_a, "labels"_a, "frame"_a, "thresholds"_a, "filter"_a, "candidates"_a,
        "workspace"_a, "stream"_a, Guard());
    module.def(
        "box_nms",
        [&kernels](const CandidateNumbers& candidates, double iou_threshold, Address kept,
                   Address kept_count, Address workspace, Address stream) {
            kernels.box_nms(candidates_of(candidates), iou_threshold, at<int32_t>(kept),
                            at<int32_t>(kept_count), at<void>(workspace), at<void>(stream));
        },
        "candidates"_a, "iou_threshold"_a, "kept"_a, "kept_count"_a, "workspace"_a, "stream"_a,
        Guard());
    module.def(
        "join_runs",
        [&kernels](const CandidateNumbers& candidates, Address kept, Address kept_count,
                   const std::tuple<Address, Address, Address>& survivors, Address stream) {
            const auto [records, counts, fill] = survivors;
            kernels.join_runs(
                candidates_of(candidates), at<const int32_t>(kept), at<const int32_t>(kept_count),
                {at<MaskRecord>(records), at<uint32_t>(counts), at<Fill>(fill)}, at<void>(stream));
        },
        "candidates"_a, "kept"_a, "kept_count"_a, "survivors"_a, "stream"_a, Guard());
}

}  // namespace

void add_device(nb::module_& module, const DeviceKernels& kernels) {
    module.attr("name") = std::string(kernels.name);
    module.def(
        "preprocess_workspace",
        [&kernels](const FrameNumbers& frame) {
            return kernels.preprocess_workspace(frame_of(frame));
        },
        "frame"_a);
    module.def(
        "binarise_workspace",
        [&kernels](int64_t planes, const std::tuple<int64_t, int64_t>& low,
                   const FrameNumbers& frame) {
            const auto [height, width] = low;
            return kernels.binarise_workspace(planes, {height, width}, frame_of(frame));
        },
        "planes"_a, "low"_a, "frame"_a);
    module.def("box_nms_workspace", kernels.box_nms_workspace, "mask_capacity"_a);
    module.def(
        "preprocess",
        [&kernels](Address image, const FrameNumbers& frame, const Triple& mean,
                   const Triple& deviation, Address out, bool fp16, Address workspace,
                   Address stream) {
            const Frame placed = frame_of(frame);
            kernels.preprocess({at<const uint8_t>(image), placed.image}, placed,
                               normalisation_of(mean, deviation), {at<void>(out), fp16},
                               at<void>(workspace), at<void>(stream));
        },
        "image"_a, "frame"_a, "mean"_a, "deviation"_a, "out"_a, "half"_a, "workspace"_a, "stream"_a,
        Guard());
    add_prompts(module, kernels);
    add_masks(module, kernels);
}

}  // namespace fastseg::bindings
