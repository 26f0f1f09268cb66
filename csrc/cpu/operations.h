// The CPU's implementations, as table.cpp lists them; what they promise is said in kernels.h.
#pragma once

#include "kernels.h"

namespace fastseg::cpu {

void resize_bilinear(Picture picture, Size size, uint8_t* out, int threads);
void preprocess(Picture picture, Frame frame, Normalisation normalisation, float* out, int threads);
void point_grid(int64_t per_side, double* out);
void binarise(Planes<const float> logits, Frame frame, Thresholds thresholds,
              const BinarisedOut& out, int threads, std::string_view sieve);
void runs_check(Runs runs);
void runs_areas(Runs runs, int64_t* out);
void runs_boxes(Runs runs, int64_t* out);
void runs_iou(Runs a, Runs b, double* out, int threads);
void runs_to_array(Runs runs, uint8_t* out, int threads);
void runs_from_array(Planes<const uint8_t> masks, const RunsOut& out, int threads);
void runs_to_strings(Runs runs, const TextsOut& out);
void runs_from_strings(Texts texts, Size size, const RunsOut& out);
void runs_polygons(Runs runs, const PolygonsOut& out, int threads);
void runs_remove_small_regions(Runs runs, SmallRegions what, const RunsOut& out, uint8_t* changed,
                               int threads);
int64_t box_nms(Boxes boxes, const float* scores, double iou_threshold, int64_t* kept);
void near_crop_edge(const int64_t* boxes, int64_t count, Frame frame, double tolerance,
                    uint8_t* out);
void frame_input(FramePixels frame, Window window, int64_t side, float* out, int threads);
void masks_to_frame(Planes<const uint8_t> masks, Window window, Size size, const RunsOut& out,
                    int threads);
void clean_chambers(Planes<const float> probabilities, Cleaning cleaning, uint8_t* out,
                    int threads);
void chamber_scores(Planes<const float> probabilities, const uint8_t* masks, ChamberScores out,
                    int threads);
void measure_shapes(Planes<const uint8_t> masks, Cuts cuts, const ShapesOut& out, int threads);

}  // namespace fastseg::cpu
