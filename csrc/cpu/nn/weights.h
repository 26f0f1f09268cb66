// The weights of a network by their names in a checkpoint.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace fastseg::cpu::nn {

struct Weight {
    const float* data;
    std::vector<int64_t> shape;
};

using Weights = std::map<std::string, Weight>;

// Of a layer norm.
struct Norm {
    std::vector<float> scale, shift;
};

}  // namespace fastseg::cpu::nn
