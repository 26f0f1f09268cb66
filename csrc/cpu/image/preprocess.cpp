#include <algorithm>
#include <array>
#include <stdexcept>
#include <vector>

#include "cpu/image/resize.h"
#include "cpu/support/parallel.h"
#include "kernels.h"

namespace fastseg::cpu {
namespace {

constexpr int channels = 3;

using LookupTable = std::array<float, 256>;

// The normalised values of the 256 values of a channel.
LookupTable normalised(float mean, float deviation) {
    LookupTable table;
    for (size_t value = 0; value < table.size(); ++value) {
        table[value] = (static_cast<float>(value) - mean) / deviation;
    }
    return table;
}

}  // namespace

void preprocess(Image image, Frame frame, Normalisation normalisation, float* out, int threads) {
    const int64_t side = frame.side;
    const auto [height, width] = frame.resized;
    if (height > side || width > side) {
        throw std::invalid_argument("the resized part is larger than the square");
    }
    LookupTable tables[channels];
    for (int channel = 0; channel < channels; ++channel) {
        tables[channel] = normalised(normalisation.mean[channel], normalisation.deviation[channel]);
    }
    const int64_t row_bytes = image.size.width * channels;
    const Image part{image.data + frame.y0 * row_bytes + frame.x0 * channels, frame.size()};
    const TwoPassResize resized(part, row_bytes, frame.resized, threads);
    parallel_for(team_size(threads, side, 5.0 * static_cast<double>(side * side)), side, [&] {
        return [&, height = height, width = width,
                bytes = std::vector<uint8_t>(static_cast<size_t>(width * channels))](
                   int64_t y) mutable {
            const int64_t filled = y < height ? width : 0;
            if (filled > 0) resized.row(y, bytes.data());
            for (int channel = 0; channel < channels; ++channel) {
                float* row = out + (channel * side + y) * side;
                const LookupTable& table = tables[channel];
                for (int64_t x = 0; x < filled; ++x) {
                    row[x] = table[bytes[static_cast<size_t>(x * channels + channel)]];
                }
                std::fill(row + filled, row + side, 0.0f);
            }
        };
    });
}

}  // namespace fastseg::cpu
