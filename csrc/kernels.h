// The native operations of fastseg on a CPU.
//
// Plain data in, plain data out: no Python, no CUDA header, no owner of memory. Results whose size
// is known only afterwards are written to memory that the caller hands out through `Allocate`,
// which is called exactly once by a call that succeeds.
//
// Every operation gives the same bits for any number of threads and on any processor (but for the
// last bit of the C library's atan2, sin and cos in measure_shapes). Malformed input throws
// std::invalid_argument; counts of zero are fine everywhere.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>
#include <variant>

namespace fastseg {

template <class T>
using Allocate = std::function<T*(int64_t count)>;

// A stack of row-major planes; `stride` counts elements from one plane to the next.
template <class T>
struct Planes {
    T* data;
    int64_t count, height, width, stride;
    const int64_t* chosen = nullptr;  // [count] which of the planes these are; null for the first

    T* plane(int64_t index) const { return data + (chosen ? chosen[index] : index) * stride; }
};

struct Size {
    int64_t height, width;

    int64_t area() const { return height * width; }
};

// One row-major RGB image, 8 bits a channel. // [height, width, 3]
struct Image {
    const uint8_t* data;
    Size size;
};

// The placement of a part of an image in the square input of a model (fastseg/geometry.py).
struct Frame {
    Size image;              // the whole image
    int64_t x0, y0, x1, y1;  // the part, end-exclusive
    int64_t side;            // of the square
    Size resized;            // the part inside the square

    Size size() const { return {y1 - y0, x1 - x0}; }
};

// COCO run lengths of masks of one size: column by column, the first count is background.
struct Rle {
    const uint32_t* counts;  // [offsets[masks]]
    const int64_t* offsets;  // [masks + 1]
    int64_t masks;
    Size size;
};

struct RleOut {
    Allocate<uint32_t> counts;
    int64_t* offsets;  // [masks + 1]
};

// Byte strings, one after another.
struct Strings {
    const char* data;
    const int64_t* offsets;  // [count + 1]
    int64_t count;
};

struct StringsOut {
    Allocate<char> data;
    int64_t* offsets;  // [count + 1]
};

struct Normalisation {
    float mean[3], deviation[3];
};

struct Thresholds {
    float low, middle, high;  // a mask is what lies above `middle`; the others judge its stability
};

struct BinarisedOut {
    RleOut runs;
    int64_t* areas;    // [masks]
    int64_t* boxes;    // [masks, 4] x0 y0 x1 y1, inclusive; an empty mask gives zeros
    float* stability;  // [masks] pixels above `high` / pixels above `low`; 0 / 0 is NaN
};

struct PolygonsOut {
    Allocate<int32_t> points;        // [points, 2] x before y, at pixel corners
    Allocate<int64_t> ring_offsets;  // [rings + 1] into points
    int64_t* mask_offsets;           // [masks + 1] into rings
};

enum class Regions { holes, islands };

struct SmallRegions {
    double min_area;  // in pixels; smaller ones go
    Regions mode;
};

// The way distances are added up: straight lines, or steps to the 16 neighbours of a 5 x 5 mask.
enum class Metric { exact, chamfer };

struct DistanceSettings {
    Metric metric;
    double row_spacing, column_spacing;  // of neighbouring pixels; chamfer counts pixels
};

struct Boxes {
    const float* data;  // [count, 4] x0 y0 x1 y1
    int64_t count;
};

// A frame of any number of channels. // [height, width, channels]
template <class T>
struct Pixels {
    const T* data;
    Size size;
    int64_t channels;
};

using FramePixels = std::variant<Pixels<uint8_t>, Pixels<float>>;

// The part of a frame that is a network's input, end-exclusive; it may reach beyond the frame.
struct Window {
    int64_t x0, y0, x1, y1;
};

// Settings for the masks of heart chambers from a network's probabilities.
struct Cleaning {
    int64_t channels;  // planes of one frame; they follow each other
    float threshold;   // a mask is what lies above it
    bool exclusive;    // channel 0 is the union of the others, which may not overlap
};

struct ChamberScores {
    float* scores;     // [planes] the intersection over union that the probabilities promise
    float* stability;  // [planes] pixels above logit 1 / pixels above logit -1; 0 / 0 is NaN
};

// The rule by which a mask's long axis and its disks are found, see cpu/echo/disks.h.
enum class AxisRule { exact, upright, as_published };

struct DiskSettings {
    int64_t disks;
    AxisRule rule;
};

// In pixels and radians; points are row, column. NaN where there is nothing to measure.
struct ShapeMeasures {
    double area, convex_area;  // of all pieces; 0 and NaN for an empty mask
    double eccentricity;       // this, and what follows, of the piece that the axis is laid through
    double centroid[2];
    double major_axis, minor_axis, orientation;
    double ends[4];  // top and bottom of the axis
    double length;
    double pieces;  // 8-connected
};

struct ShapesOut {
    ShapeMeasures* measures;  // [masks]
    double* chords;           // [masks, disks, 4] left and right end; NaN without a pixel
    double* diameters;        // [masks, disks]
};

// `threads` is the number of threads that a call may use at most; 0 is one for every core.
namespace cpu {

// 8-bit bilinear resampling with antialiasing, bit for bit Pillow's. // out [height, width, 3]
void resize_bilinear(Image image, Size size, uint8_t* out, int threads);

// Crop, resize, normalise, pad with zeros. // out [3, side, side]
void preprocess(Image image, Frame frame, Normalisation normalisation, float* out, int threads);

// Luma and chroma of full range to RGB, see cpu/image/ycbcr_to_rgb.cpp. `out` may be `ycbcr`.
// both [pixels, 3]
void ycbcr_to_rgb(const uint8_t* ycbcr, int64_t pixels, uint8_t* out, int threads);

// The colours [256, 3] of a palette for indices of 8 bits. // out [pixels, 3]
void palette_to_rgb(const uint8_t* indices, int64_t pixels, const uint8_t* colours, uint8_t* out,
                    int threads);

// Planes by cubic convolution, see cpu/image/enlarge_cubic.cpp, to the first rows and columns of
// those of `out`, whose others are not written.
void enlarge_cubic(Planes<const float> planes, Size size, Planes<float> out, int threads);

// Centres of a square grid on the unit square, x fastest. // out [per_side * per_side, 2]
void point_grid(int64_t per_side, double* out);

// Low-resolution logits to masks of the whole image, see cpu/masks/binarise.cpp. `kernel` is the
// widest vector that may be used by name, see cpu/masks/row_threshold.h; empty for what the
// processor has.
void binarise(Planes<const float> logits, Frame frame, Thresholds thresholds,
              const BinarisedOut& out, int threads, std::string_view kernel);

// Throws std::invalid_argument naming the first mask whose counts do not fill its size.
void rle_check(Rle runs);
void rle_areas(Rle runs, int64_t* out);                  // out [masks]
void rle_boxes(Rle runs, int64_t* out);                  // out [masks, 4]
void rle_iou(Rle a, Rle b, double* out, int threads);    // out [a.masks, b.masks]
void rle_to_array(Rle runs, uint8_t* out, int threads);  // out [masks, height, width]
void rle_from_array(Planes<const uint8_t> masks, const RleOut& out, int threads);
void rle_to_strings(Rle runs, const StringsOut& out);
void rle_from_strings(Strings texts, Size size, const RleOut& out);
void rle_polygons(Rle runs, const PolygonsOut& out, int threads);

// changed [masks] is 1 where a region went.
void rle_remove_small_regions(Rle runs, SmallRegions what, const RleOut& out, uint8_t* changed,
                              int threads);

// The distance of each pixel of a mask to the nearest pixel that is not of it; infinite where there
// is none. // out [masks, height, width]
void distance_transform(Planes<const uint8_t> masks, DistanceSettings settings, double* out,
                        int threads);

// 8-connected components, numbered from 1 in raster order of their first pixels; 0 elsewhere.
// out [masks, height, width], counts [masks]
void label_components(Planes<const uint8_t> masks, int32_t* out, int64_t* counts, int threads);

// Greedy suppression; returns how many of the indices in `kept` [boxes.count] are valid.
int64_t box_nms(Boxes boxes, const float* scores, double iou_threshold, int64_t* kept);

// 1 where a box ends at an edge of the crop that is no edge of the image. // out [count]
void near_crop_edge(const int64_t* boxes, int64_t count, Frame frame, double tolerance,
                    uint8_t* out);

// A window, resampled and stretched to 0..1, see cpu/image/frame_input.cpp. // out [C, side, side]
void frame_input(FramePixels frame, Window window, int64_t side, float* out, int threads);

// Masks of a window to masks of its frame, see cpu/echo/masks_to_frame.cpp.
void masks_to_frame(Planes<const uint8_t> masks, Window window, Size size, const RleOut& out,
                    int threads);

// Largest component, closing by a disk, holes filled, see cpu/echo/clean_chambers.cpp. // out as
// the input
void clean_chambers(Planes<const float> probabilities, Cleaning cleaning, uint8_t* out,
                    int threads);

// masks [planes, height, width]
void chamber_scores(Planes<const float> probabilities, const uint8_t* masks, ChamberScores out,
                    int threads);

void measure_shapes(Planes<const uint8_t> masks, DiskSettings disk_settings, const ShapesOut& out,
                    int threads);

}  // namespace cpu

}  // namespace fastseg
