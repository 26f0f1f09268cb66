// The forward pass of a frame in bfloat16, and the feature maps between its layers.
#pragma once

#include <vector>

#include "cpu/echo_unet/network.h"
#include "cpu/echo_unet/x86/conv_amx.h"
#include "cpu/echo_unet/x86/feature_map.h"
#include "cpu/echo_unet/x86/model.h"
#include "cpu/support/team.h"

namespace fastseg::cpu::echo_unet {

// The feature maps of one resolution.
struct Level {
    FeatureMap input;      // of the encoder's layers
    FeatureMap skip;       // their result, which the decoder reads again
    FeatureMap upsampled;  // from the level below
    FeatureMap inner;      // between two convolutions
    FeatureMap output;     // of the decoder's layers
};

// Maps of some rows, which a thread writes and reads while they are in the second-level cache.
struct Band {
    FeatureMap upsampled, inner;
};

class ForwardPassBf16 : public ForwardPass {
  public:
    explicit ForwardPassBf16(const Model& model);

    void run(const float* frame, float* probabilities, int threads) override;

  private:
    using Maps = std::vector<const FeatureMap*>;

    // Call body(bands, item) for every item by all threads; `bands` are those of the thread.
    template <class Body>
    void share(Team& team, int64_t items, const Body& body);
    void pass(Team& team, const float* frame, float* probabilities);
    void encode_level(Team& team, int64_t level);
    void decode_level(Team& team, int64_t level, float* probabilities);
    void convolve_all(Team& team, const Layer& layer, const Maps& from, const FeatureMap& to);
    void upsample(int64_t level, const FeatureMap& to, int64_t y0, int64_t y1);
    void pool(int64_t level, int64_t y0, int64_t y1);
    int64_t band_rows(int64_t level) const;
    // Parts of a layer that threads share: so many that none waits long for the last one.
    int64_t parts_wanted() const { return threads_ > 1 ? 2 * threads_ : 1; }

    const Model& model_;
    std::vector<Level> levels_;
    std::vector<std::vector<Band>> bands_;  // of every thread, of the finest levels
    int threads_ = 1;
};

}  // namespace fastseg::cpu::echo_unet
