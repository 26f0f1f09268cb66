// The operations of everything mode on a device that works while the host does something else.
//
// As kernels.h, and by the same names, with one difference: nothing here waits. Work is queued on a
// stream, sizes that only the device knows stay on the device, and results go into memory whose
// capacity the caller chose. All pointers are the device's. Every operation gives the bits that the
// CPU's gives. Counts of zero are fine; malformed sizes throw std::invalid_argument, and what the
// device's runtime refuses throws std::runtime_error.
#pragma once

#include <cstdint>
#include <string_view>

#include "kernels.h"

namespace fastseg {

// A cudaStream_t; what it means to a device without streams is said there.
using Stream = void*;

// Numbers in float32 or, if `fp16`, in IEEE 754 binary16.
struct Numbers {
    void* data;
    bool fp16;
};

// A network's low-resolution logits. // [count, height, width]
struct LogitPlanes {
    const void* data;
    bool fp16;
    int64_t count, height, width;
};

// The prompt that a plane of logits belongs to.
struct PlaneLabel {
    float score;     // predicted IoU
    int32_t prompt;  // index of its point in the grid; negative: a plane that is skipped
};

// A mask that passed the filters, in the order of prompts and slots.
struct MaskRecord {
    float score, stability;
    uint32_t area;
    int32_t box[4];  // x0 y0 x1 y1, inclusive; an empty mask gives zeros
    int32_t prompt;
    int64_t begin, length;  // of its positions or run lengths
};

// The length of a list. Beyond the capacity nothing is written and counting goes on, so that the
// host can see the capacity that was needed.
struct Fill {
    int64_t masks, runs;
};

// Masks found so far. `positions` are where, in column-major order, a mask begins or ends; the last
// one of a mask is its image's area, unless it ended there.
struct Candidates {
    MaskRecord* records;  // [mask_capacity]
    uint32_t* positions;  // [run_capacity]
    Fill* fill;           // [1]
    int64_t mask_capacity, run_capacity;
};

// Masks that remain. // counts: COCO run lengths, one mask after another
struct Survivors {
    MaskRecord* records;  // [mask_capacity]
    uint32_t* counts;     // [run_capacity]
    Fill* fill;           // [1]
};

struct MaskFilter {
    float least_stability;
    double edge_tolerance;  // near_crop_edge's
};

// Rows that are copied to lie one behind the other: rows[first], ..., for at most `size` of them.
struct RowGather {
    const void* source;
    int64_t source_stride, row_bytes;  // in bytes; both, and the pointers, are multiples of 4
    const int32_t* rows;
    const int32_t* row_count;  // [1]
    int64_t first, size;
};

struct DeviceKernels {
    std::string_view name;

    // Bytes of scratch memory that these operations need.
    int64_t (*preprocess_workspace)(Frame frame);
    int64_t (*binarise_workspace)(int64_t planes, Size low, Frame frame);
    int64_t (*box_nms_workspace)(int64_t mask_capacity);

    // As cpu::preprocess. // out [3, side, side]
    void (*preprocess)(Image image, Frame frame, Normalisation normalisation, Numbers out,
                       void* workspace, Stream stream);

    // As cpu::point_grid.
    void (*point_grid)(int64_t per_side, double* out, Stream stream);

    // One foreground point and one point of padding for each of the points on the unit square.
    // coords [count, 2, 2], labels [count, 2]
    void (*point_prompts)(const double* points, int64_t count, Frame frame, float* coords,
                          int32_t* labels, Stream stream);

    // Prompts with a mask whose predicted IoU is above the threshold, in order; SAM's slots 1 to 3.
    // scores [count, 4], prompts [count], prompt_count [1]
    void (*select_prompts)(const float* scores, int64_t count, float threshold, int32_t* prompts,
                           int32_t* prompt_count, Stream stream);

    void (*gather_rows)(RowGather gather, void* out, Stream stream);

    // Labels of the planes that rows first... of select_prompts give, three a prompt.
    // labels [size * 3]; `first_prompt` is the first of this batch in the grid.
    void (*label_planes)(const float* scores, RowGather rows, float threshold, int64_t first_prompt,
                         PlaneLabel* labels, Stream stream);

    // As cpu::binarise, for planes with a label; masks that pass are added to the candidates.
    void (*binarise)(LogitPlanes logits, const PlaneLabel* labels, Frame frame,
                     Thresholds thresholds, MaskFilter filter, Candidates candidates,
                     void* workspace, Stream stream);

    // As cpu::box_nms, over the candidates. // kept [mask_capacity], kept_count [1]
    void (*box_nms)(Candidates candidates, double iou_threshold, int32_t* kept, int32_t* kept_count,
                    void* workspace, Stream stream);

    // The kept candidates in that order, with run lengths instead of positions.
    void (*join_runs)(Candidates candidates, const int32_t* kept, const int32_t* kept_count,
                      Survivors out, Stream stream);
};

// Host memory and plain loops over the very bodies of the CUDA kernels: what tests compare.
const DeviceKernels& emulated_kernels();

// In the extension module of its own that is built where there is a CUDA compiler.
const DeviceKernels& cuda_kernels();

}  // namespace fastseg
