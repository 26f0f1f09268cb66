// The sizes of an echo U-Net (Ferreira et al., Nat Commun 16, 4070, 2025), and those that the
// kernel supports.
#pragma once

#include <cstdint>
#include <string>

#include "cpu/nn/weights.h"

namespace fastseg::cpu::echo_unet {

inline constexpr int64_t levels = 5;          // resolutions, the finest first
inline constexpr int64_t smallest_side = 16;  // and what sides are multiples of
inline constexpr int64_t largest_side = 2048;
inline constexpr int64_t frame_channels = 4;  // at most, of an input frame
inline constexpr int64_t most_classes = 16;

// The reason why the kernel does not support a network of such sizes; empty if it does.
std::string unsupported_reason(int64_t width, int64_t channels, int64_t classes, int64_t side);

struct Sizes {
    // Those of weights. Sizes that are not supported throw std::invalid_argument.
    Sizes(const nn::Weights& weights, int64_t side);

    int64_t side_of(int64_t level) const { return side >> level; }
    int64_t width_of(int64_t level) const { return width << level; }

    int64_t side, channels, width, classes;  // width: channels of the finest level
};

// The name of a layer in the weights.
std::string layer_name(const char* part, int64_t level, int64_t index);

}  // namespace fastseg::cpu::echo_unet
