// The forward pass of a frame in float32, and the feature maps between its layers.
#pragma once

#include <vector>

#include "cpu/echo_unet/f32_model.h"
#include "cpu/echo_unet/f32_products.h"
#include "cpu/echo_unet/network.h"
#include "cpu/support/team.h"

namespace fastseg::cpu::echo_unet {

// A feature map in a frame of zeros that pads convolutions; its tiles of 4 x 4 pixels are whole.
class FeatureMapF32 {
  public:
    FeatureMapF32(int64_t side, int64_t channels);

    nn::Pixels pixels() const;

  private:
    int64_t pixel_, row_;
    nn::Buffer memory_;
};

// The feature maps of one resolution.
struct LevelF32 {
    // [2 width]: first the input of the encoder's layers, later what is upsampled from the level
    // below, last the decoder's result; then the encoder's result, which the decoder reads again.
    FeatureMapF32 both;
    FeatureMapF32 inner;  // [width] between two convolutions
};

class ForwardPassF32 : public ForwardPass {
  public:
    explicit ForwardPassF32(const ModelF32& model);

    void run(const float* frame, float* probabilities, int threads) override;

  private:
    void pass(Team& team, const float* frame, float* probabilities);
    void first_layer(Team& team, const float* frame);
    void convolve(Team& team, const Matrices& layer, const nn::Pixels& from, const nn::Pixels& to,
                  int64_t side);
    void convolve_together(Team& team, const Matrices& layer, const nn::Pixels& from,
                           const nn::Pixels& to, int64_t side);
    void pool(Team& team, int64_t level);
    void upsample(Team& team, int64_t level);
    void head(Team& team, float* probabilities);

    void reserve();
    nn::Pixels lower(int64_t level) const;  // of LevelF32::both
    nn::Pixels upper(int64_t level) const;
    bool together(const Matrices& layer, int64_t side) const;
    int64_t line_groups(int64_t side) const;
    LineSums line_sums(int thread, const Matrices& layer, int64_t side) const;

    const ModelF32& model_;
    std::vector<LevelF32> levels_;
    FeatureMapF32 frame_;
    Scratch shared_;
    std::vector<Scratch> scratch_;  // of every thread
    int threads_ = 1;
};

}  // namespace fastseg::cpu::echo_unet
