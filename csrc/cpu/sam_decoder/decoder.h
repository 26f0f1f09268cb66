// SAM's mask decoder as a native kernel: images to the state that prompts share, prompts to scores
// and mask vectors, selected masks to logits. Results do not depend on the number of threads or on
// the prompts that are given together. Malformed input throws std::invalid_argument.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cpu/sam_decoder/image_state.h"
#include "cpu/sam_decoder/mask_renderer.h"
#include "cpu/sam_decoder/model.h"

namespace fastseg::cpu::sam_decoder {

struct Prompts {
    const float* points;         // [count, points, 2] in pixels of the square
    const int32_t* labels;       // [count, points] -1 padding, 0, 1, 2 and 3 corners
    const float* masks;          // [count, 4 * grid, 4 * grid], or null
    const int32_t* image_index;  // [count] into states
    int64_t count, points_each;
};

struct DecodeResult {
    float* ious;          // [count, 4]
    float* vectors;       // [count, 4, vector]
    float* prompt_state;  // [count, prompt_state_size] from which `draw` makes image tokens again
};

// Masks that are drawn as soon as their score is known.
struct MasksAbove {
    float threshold;     // of the predicted IoU; minus infinity draws all, also those whose score
                         // is no number
    int64_t first, end;  // slots, 0 to 4, of the masks that may be drawn
    float* logits;       // [count, end - first, 4 * grid, 4 * grid] or null for none; masks that
                         // are not drawn are not written
    int64_t rows, columns;  // of the logits that are wanted, from the top left; others may be left

    int64_t masks() const { return end - first; }
};

struct MaskRequest {
    const float* prompt_state;   // [count, prompt_state_size]
    const float* vectors;        // [count, masks, vector]
    const int32_t* image_index;  // [count] into states
    int64_t count, prompt_state_size, masks;
    float* logits;  // [count, masks, 4 * grid, 4 * grid]
};

class Decoder {
  public:
    // `kernel_table` by name.
    Decoder(const Weights& weights, int64_t grid, int64_t side, const std::string& kernel_table);

    int64_t vector() const { return model_.vector(); }  // floats of a mask's vector
    std::vector<int64_t> map_sizes() const { return model_.map_sizes(); }
    int64_t state_size() const;                                       // floats an image
    int64_t prompt_state_size(int64_t points, bool with_mask) const;  // floats a prompt

    void image_state(const ImageMaps& maps, float* state, int threads) const;
    void decode(const Prompts& prompts, const float* states, int64_t images,
                const DecodeResult& result, int threads) const;
    // Both stages at once: image tokens are made once and cached for a few prompts at a time.
    void decode_above(const Prompts& prompts, const float* states, int64_t images, float* ious,
                      const MasksAbove& masks, int threads) const;
    void draw(const MaskRequest& request, const float* states, int64_t images, int threads) const;

  private:
    void run(const Prompts& prompts, const float* states, int64_t images,
             const DecodeResult& result, const MasksAbove& masks, int threads) const;
    void draw_whole(const MaskRequest& request, const float* states, int64_t longest,
                    int team) const;
    RenderTask render_task(const MaskRequest& request, int64_t prompt) const;
    const std::byte* state_of(const MaskRequest& request, const float* states,
                              int64_t prompt) const;
    TileRange tiles_of(int64_t part, int64_t parts) const;
    void add_mask(const std::byte* state, const float* mask, float* shrunk, std::byte* to,
                  int threads) const;

    Model model_;
};

// Kernel tables that this processor can run, fastest first.
std::vector<std::string> kernel_table_names();

}  // namespace fastseg::cpu::sam_decoder
