// Weights by name, each of which must have the shape that is asked for.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include "cpu/nn/weights.h"

namespace fastseg::cpu::nn {

class WeightReader {
  public:
    explicit WeightReader(const Weights& weights) : weights_(weights) {}

    const Weight& any(const std::string& name) const {
        const auto found = weights_.find(name);
        if (found == weights_.end()) throw std::invalid_argument("there is no " + name);
        return found->second;
    }

    const float* data(const std::string& name, const std::vector<int64_t>& shape) const {
        const Weight& found = any(name);
        if (found.shape != shape)
            throw std::invalid_argument(name + " is " + text(found.shape) + ", not " + text(shape));
        return found.data;
    }

    std::vector<float> values(const std::string& name, const std::vector<int64_t>& shape) const {
        int64_t count = 1;
        for (const int64_t size : shape) count *= size;
        const float* from = data(name, shape);
        return {from, from + count};
    }

    // A number of its own, or `otherwise` where the file does not state it.
    double scalar(const std::string& name, double otherwise) const {
        return weights_.count(name) ? static_cast<double>(*data(name, {1})) : otherwise;
    }

  private:
    static std::string text(const std::vector<int64_t>& shape) {
        std::string text = "(";
        for (const int64_t size : shape) text += std::to_string(size) + ",";
        return text + ")";
    }

    const Weights& weights_;
};

}  // namespace fastseg::cpu::nn
