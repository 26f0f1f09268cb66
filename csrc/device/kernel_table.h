// Every operation of a device, for its launcher.
#pragma once

#include "device/binarise.h"
#include "device/boxes.h"
#include "device/join_runs.h"
#include "device/preprocess.h"
#include "device/prompts.h"

namespace fastseg::device {

// The table of the device whose work `Launcher(stream)` takes.
template <class Launcher>
struct Operations {
    static void preprocess(Image image, Frame frame, Normalisation normalisation, Numbers out,
                           void* workspace, Stream stream) {
        device::preprocess(Launcher(stream), image, frame, normalisation, out, workspace);
    }
    static void point_grid(int64_t per_side, double* out, Stream stream) {
        device::point_grid(Launcher(stream), per_side, out);
    }
    static void point_prompts(const double* points, int64_t count, Frame frame, float* coords,
                              int32_t* labels, Stream stream) {
        device::point_prompts(Launcher(stream), points, count, frame, coords, labels);
    }
    static void select_prompts(const float* scores, int64_t count, float threshold,
                               int32_t* prompts, int32_t* prompt_count, Stream stream) {
        device::select_prompts(Launcher(stream), scores, count, threshold, prompts, prompt_count);
    }
    static void gather_rows(RowGather gather, void* out, Stream stream) {
        device::gather_rows(Launcher(stream), gather, out);
    }
    static void label_planes(const float* scores, RowGather rows, float threshold,
                             int64_t first_prompt, PlaneLabel* labels, Stream stream) {
        device::label_planes(Launcher(stream), scores, rows, threshold, first_prompt, labels);
    }
    static void binarise(LogitPlanes logits, const PlaneLabel* labels, Frame frame,
                         Thresholds thresholds, MaskFilter filter, Candidates candidates,
                         void* workspace, Stream stream) {
        device::binarise(Launcher(stream), logits, labels, frame, thresholds, filter, candidates,
                         workspace);
    }
    static void box_nms(Candidates candidates, double iou_threshold, int32_t* kept,
                        int32_t* kept_count, void* workspace, Stream stream) {
        device::box_nms(Launcher(stream), candidates, iou_threshold, kept, kept_count, workspace);
    }
    static void join_runs(Candidates candidates, const int32_t* kept, const int32_t* kept_count,
                          Survivors out, Stream stream) {
        device::join_runs(Launcher(stream), candidates, kept, kept_count, out);
    }

    static constexpr DeviceKernels kernels(std::string_view name) {
        return {
            .name = name,
            .preprocess_workspace = device::preprocess_workspace,
            .binarise_workspace = device::binarise_workspace,
            .box_nms_workspace = device::box_nms_workspace,
            .preprocess = preprocess,
            .point_grid = point_grid,
            .point_prompts = point_prompts,
            .select_prompts = select_prompts,
            .gather_rows = gather_rows,
            .label_planes = label_planes,
            .binarise = binarise,
            .box_nms = box_nms,
            .join_runs = join_runs,
        };
    }
};

}  // namespace fastseg::device
