// SAM's mask decoder as a native kernel: images to what prompts share, prompts to scores and mask
// vectors, survivors to logits. Results do not depend on the number of threads or on which
// prompts are given together. Malformed input throws std::invalid_argument.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cpu/sam_decoder/model.h"

namespace fastseg::cpu::sam_decoder {

struct Asked {
    const float* points;         // [count, points, 2] in pixels of the square
    const int32_t* labels;       // [count, points] -1 padding, 0, 1, 2 and 3 corners
    const float* masks;          // [count, 4 * grid, 4 * grid], or null
    const int32_t* image_index;  // [count] into states
    int64_t count, points_each;
};

struct Answered {
    float* ious;     // [count, 4]
    float* vectors;  // [count, 4, 32]
    float* memory;   // [count, memory_size] what `draw` needs to make the image tokens again
};

// Masks drawn as soon as they are known to be wanted.
struct Drawing {
    float above;    // predicted IoU of those that are drawn, of the last three of the four
    float* logits;  // [count, 3, 4 * grid, 4 * grid] or null: none; of others nothing is written
};

struct Drawn {
    const float* memory;         // [count, memory_size]
    const float* vectors;        // [count, masks, 32]
    const int32_t* image_index;  // [count] into states
    int64_t count, memory_size, masks;
    float* logits;  // [count, masks, 4 * grid, 4 * grid]
};

class Decoder {
  public:
    // `table` by name.
    Decoder(const Weights& weights, int64_t grid, int64_t side, const std::string& table);

    int64_t state_size() const;                                 // floats an image
    int64_t memory_size(int64_t points, bool with_mask) const;  // floats a prompt

    void image_state(const float* embedding, float* state, int threads) const;
    void decode(const Asked& asked, const float* states, int64_t images, const Answered& answered,
                int threads) const;
    // Both stages at once, for prompts without masks: image tokens are made once and kept for a
    // few prompts at a time.
    void search(const Asked& asked, const float* states, int64_t images, float* ious,
                const Drawing& drawing, int threads) const;
    void draw(const Drawn& drawn, const float* states, int64_t images, int threads) const;

  private:
    void run(const Asked& asked, const float* states, int64_t images, const Answered& answered,
             const Drawing& drawing, int threads) const;
    void add_mask(const std::byte* state, const float* mask, std::byte* to, int threads) const;

    Model model_;
};

// Tables that this processor can run, fastest first.
std::vector<std::string> table_names();

}  // namespace fastseg::cpu::sam_decoder
