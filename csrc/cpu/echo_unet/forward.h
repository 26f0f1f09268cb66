// A frame's way through the network, and the maps on it.
#pragma once

#include <atomic>
#include <vector>

#include "cpu/echo_unet/conv_amx.h"
#include "cpu/echo_unet/feature_map.h"
#include "cpu/echo_unet/model.h"
#include "cpu/echo_unet/phased_tasks.h"

namespace fastseg::cpu::echo_unet {

// What a resolution keeps from layer to layer.
struct Level {
    Map input;   // of the way down
    Map skip;    // its result, which the way up reads again
    Map raised;  // from the level below
    Map inner;   // between two convolutions
    Map output;  // of the way up
};

// Maps of some rows, which a thread makes and uses up while they are in the second-level cache.
struct Band {
    Map raised, inner;
};

// A thread on its way through the network.
struct Worker {
    Relay::Runner runner;
    std::vector<Band>& bands;  // of the finest levels
};

class Passage {
  public:
    explicit Passage(const Model& model);

    // frame [channels, side, side] to probabilities [classes, side, side].
    void run(const float* frame, float* probabilities, int threads);

  private:
    using Maps = std::vector<const Map*>;

    void pass(Worker& worker, const float* frame, float* probabilities);
    void descend(Worker& worker, int64_t level);
    void ascend(Worker& worker, int64_t level, float* probabilities);
    void convolve_all(Worker& worker, const Layer& layer, const Maps& from, const Map& to);
    void raise(int64_t level, const Map& to, int64_t y0, int64_t y1);
    void pool(int64_t level, int64_t y0, int64_t y1);
    int64_t band_rows(int64_t level) const;
    // Of a layer that threads share, so that none waits long for the last one.
    int64_t parts_wanted() const { return threads_ > 1 ? 2 * threads_ : 1; }

    const Model& model_;
    std::vector<Level> levels_;
    std::vector<std::vector<Band>> bands_;  // of every thread
    Relay relay_;
    int threads_ = 1;
};

}  // namespace fastseg::cpu::echo_unet
