#include "cpu/operations.h"

namespace fastseg {

const Kernels& cpu_kernels() {
    static const Kernels table{
        .name = "cpu",
        .memory = Memory::host,
        .resize_bilinear = cpu::resize_bilinear,
        .preprocess = cpu::preprocess,
        .point_grid = cpu::point_grid,
        .binarise = cpu::binarise,
        .runs_check = cpu::runs_check,
        .runs_areas = cpu::runs_areas,
        .runs_boxes = cpu::runs_boxes,
        .runs_iou = cpu::runs_iou,
        .runs_to_array = cpu::runs_to_array,
        .runs_from_array = cpu::runs_from_array,
        .runs_to_strings = cpu::runs_to_strings,
        .runs_from_strings = cpu::runs_from_strings,
        .runs_polygons = cpu::runs_polygons,
        .runs_remove_small_regions = cpu::runs_remove_small_regions,
        .box_nms = cpu::box_nms,
        .near_crop_edge = cpu::near_crop_edge,
        .frame_input = cpu::frame_input,
        .masks_to_frame = cpu::masks_to_frame,
        .clean_chambers = cpu::clean_chambers,
        .chamber_scores = cpu::chamber_scores,
        .measure_shapes = cpu::measure_shapes,
    };
    return table;
}

}  // namespace fastseg
