#include "cpu/echo_unet/sizes.h"

#include <stdexcept>

#include "cpu/nn/weight_reader.h"

namespace fastseg::cpu::echo_unet {
namespace {

constexpr int64_t step = 16, widest = 128;  // of the finest level, in channels

}  // namespace

std::string unsupported_reason(int64_t width, int64_t channels, int64_t classes, int64_t side) {
    const auto is = [](int64_t size, const char* unit) { return std::to_string(size) + unit; };
    if (width < step || width > widest || width % step)
        return is(width, " channels at the finest level are no multiple of 16 up to 128");
    if (channels < 1 || channels > frame_channels) return is(channels, " channels are not 1 to 4");
    if (classes < 1 || classes > most_classes) return is(classes, " classes are not 1 to 16");
    if (side < smallest_side || side > largest_side || side % smallest_side)
        return is(side, " pixels a side are no multiple of 16 up to 2048");
    return {};
}

Sizes::Sizes(const nn::Weights& weights, int64_t side) : side(side) {
    const nn::WeightReader read(weights);
    const std::vector<int64_t> first = read.any("down.0.0.weight").shape;
    const std::vector<int64_t> last = read.any("head.weight").shape;
    if (first.size() != 4 || last.empty())
        throw std::invalid_argument("its convolutions have no four axes");
    width = first[0];
    channels = first[1];
    classes = last[0];
    if (const std::string reason = unsupported_reason(width, channels, classes, side);
        !reason.empty())
        throw std::invalid_argument(reason);
}

std::string layer_name(const char* part, int64_t level, int64_t index) {
    return part + std::to_string(level) + "." + std::to_string(index);
}

}  // namespace fastseg::cpu::echo_unet
