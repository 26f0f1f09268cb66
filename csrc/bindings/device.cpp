#include "bindings/device.h"

#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>

#include <string>

#include "bindings/addresses.h"
#include "bindings/released_gil.h"

namespace fastseg::bindings {

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using Guard = nb::call_guard<ReleasedGil>;
using Triple = std::tuple<float, float, float>;

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
        "point_prompts",
        [&kernels](Address points, int64_t count, const Frame& frame, Address coords,
                   Address labels, Address stream) {
            kernels.point_prompts(at<const double>(points), count, frame, at<float>(coords),
                                  at<int32_t>(labels), at<void>(stream));
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
        [&kernels](const RowGather& gather, Address out, Address stream) {
            kernels.gather_rows(gather, at<void>(out), at<void>(stream));
        },
        "gather"_a, "out"_a, "stream"_a, Guard());
    module.def(
        "label_planes",
        [&kernels](Address scores, const RowGather& rows, float threshold, int64_t first_prompt,
                   Address labels, Address stream) {
            kernels.label_planes(at<const float>(scores), rows, threshold, first_prompt,
                                 at<PlaneLabel>(labels), at<void>(stream));
        },
        "scores"_a, "rows"_a, "threshold"_a, "first_prompt"_a, "labels"_a, "stream"_a, Guard());
}

void add_masks(nb::module_& module, const DeviceKernels& kernels) {
    module.def(
        "binarise",
        [&kernels](const LogitPlanes& logits, Address labels, const Frame& frame,
                   const Triple& thresholds, float least_stability, double edge_tolerance,
                   const Candidates& candidates, Address workspace, Address stream) {
            const auto [low, middle, high] = thresholds;
            kernels.binarise(logits, at<const PlaneLabel>(labels), frame, {low, middle, high},
                             {least_stability, edge_tolerance}, candidates, at<void>(workspace),
                             at<void>(stream));
        },
        "logits"_a, "labels"_a, "frame"_a, "thresholds"_a, "least_stability"_a, "edge_tolerance"_a,
        "candidates"_a, "workspace"_a, "stream"_a, Guard());
    module.def(
        "box_nms",
        [&kernels](const Candidates& candidates, double iou_threshold, Address kept,
                   Address kept_count, Address workspace, Address stream) {
            kernels.box_nms(candidates, iou_threshold, at<int32_t>(kept), at<int32_t>(kept_count),
                            at<void>(workspace), at<void>(stream));
        },
        "candidates"_a, "iou_threshold"_a, "kept"_a, "kept_count"_a, "workspace"_a, "stream"_a,
        Guard());
    module.def(
        "join_runs",
        [&kernels](const Candidates& candidates, Address kept, Address kept_count,
                   const Candidates& survivors, Address stream) {
            kernels.join_runs(candidates, at<const int32_t>(kept), at<const int32_t>(kept_count),
                              {survivors.records, survivors.positions, survivors.fill},
                              at<void>(stream));
        },
        "candidates"_a, "kept"_a, "kept_count"_a, "survivors"_a, "stream"_a, Guard());
}

}  // namespace

void add_device(nb::module_& module, const DeviceKernels& kernels) {
    module.attr("name") = std::string(kernels.name);
    module.def(
        "preprocess_workspace",
        [&kernels](const Frame& frame) { return kernels.preprocess_workspace(frame); }, "frame"_a);
    module.def(
        "binarise_workspace",
        [&kernels](int64_t planes, const std::tuple<int64_t, int64_t>& low, const Frame& frame) {
            const auto [height, width] = low;
            return kernels.binarise_workspace(planes, {height, width}, frame);
        },
        "planes"_a, "low"_a, "frame"_a);
    module.def("box_nms_workspace", kernels.box_nms_workspace, "mask_capacity"_a);
    module.def(
        "preprocess",
        [&kernels](Address image, const Frame& frame, const Triple& mean, const Triple& deviation,
                   Address out, bool fp16, Address workspace, Address stream) {
            kernels.preprocess({at<const uint8_t>(image), frame.image}, frame,
                               normalisation_of(mean, deviation), {at<void>(out), fp16},
                               at<void>(workspace), at<void>(stream));
        },
        "image"_a, "frame"_a, "mean"_a, "deviation"_a, "out"_a, "fp16"_a, "workspace"_a, "stream"_a,
        Guard());
    add_prompts(module, kernels);
    add_masks(module, kernels);
}

}  // namespace fastseg::bindings
