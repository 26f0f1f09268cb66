#include "cpu/echo_unet/model.h"

#include <stdexcept>
#include <string>

#include "cpu/nn/weight_reader.h"

namespace fastseg::cpu::echo_unet {
namespace {

constexpr int64_t step = 16, widest = 128;  // of the finest level, in channels

int64_t rounded_up(int64_t size, int64_t step) {
    return (size + step - 1) / step * step;
}

// An input map of a layer: `held` channels a pixel, of which the first `channels` are used.
struct Read {
    int64_t channels, held;
};

class Reader : private nn::WeightReader {
  public:
    Reader(const nn::Weights& weights, const nn::KernelTable& table)
        : WeightReader(weights), table_(table) {}

    using WeightReader::any;

    Layer convolution(const std::string& name, int64_t neighbours, const std::vector<Read>& reads,
                      int64_t out) const {
        int64_t in = 0, steps = 0;
        for (const Read& read : reads) {
            in += read.channels;
            steps += neighbours * steps_across(neighbours, read.held);
        }
        const float* from = data(name + ".weight", {out, in, neighbours, neighbours});
        const int64_t columns = rounded_up(out, 16), taps = neighbours * neighbours;
        std::vector<float> matrix(static_cast<size_t>(32 * steps * columns));
        float* row = matrix.data();
        int64_t first = 0;  // channel of this map
        for (const Read& read : reads) {
            for (int64_t dy = 0; dy < neighbours; ++dy)
                for (int64_t k = 0; k < 32 * steps_across(neighbours, read.held);
                     ++k, row += columns) {
                    const int64_t dx = k / read.held, channel = k % read.held;
                    if (dx >= neighbours || channel >= read.channels) continue;
                    for (int64_t o = 0; o < out; ++o)
                        row[o] = from[(o * in + first + channel) * taps + dy * neighbours + dx];
                }
            first += read.channels;
        }
        Layer layer = packed(matrix, neighbours, steps, columns);
        std::vector<float> bias = values(name + ".bias", {out});
        bias.resize(static_cast<size_t>(columns));
        layer.bias = std::move(bias);
        return layer;
    }

    // One row of the 2 x 2 pixels that a transposed convolution makes of each.
    Layer transposed(const std::string& name, int64_t dy, int64_t in, int64_t out) const {
        const float* from = data(name + ".weight", {in, out, 2, 2});
        const int64_t columns = 2 * out, steps = steps_across(1, in);
        std::vector<float> matrix(static_cast<size_t>(32 * steps * columns));
        for (int64_t channel = 0; channel < in; ++channel)
            for (int64_t column = 0; column < columns; ++column)
                matrix[static_cast<size_t>(channel * columns + column)] =
                    from[(channel * out + column % out) * 4 + dy * 2 + column / out];
        Layer layer = packed(matrix, 1, steps, columns);
        const std::vector<float> bias = values(name + ".bias", {out});
        for (int dx = 0; dx < 2; ++dx)
            layer.bias.insert(layer.bias.end(), bias.begin(), bias.end());
        return layer;
    }

  private:
    Layer packed(const std::vector<float>& matrix, int64_t neighbours, int64_t steps,
                 int64_t columns) const {
        Layer layer{neighbours, columns, steps, nn::Buffer(32 * steps * columns * 2), {}};
        table_.pack_b(matrix.data(), layer.kernel.bytes(), 32 * steps, columns);
        return layer;
    }

    const nn::KernelTable& table_;
};

std::string numbered(const char* part, int64_t level, int64_t index) {
    return part + std::to_string(level) + "." + std::to_string(index);
}

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

Model::Model(const nn::Weights& weights, int64_t side, const nn::KernelTable& table)
    : table(table), side(side) {
    const Reader read(weights, table);
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
    for (int64_t level = 0; level < levels; ++level) {
        const int64_t out = width_of(level), in = level ? out / 2 : channels;
        down[level][0] = read.convolution(numbered("down.", level, 0), 3,
                                          {{in, level ? in : frame_channels}}, out);
        down[level][1] = read.convolution(numbered("down.", level, 1), 3, {{out, out}}, out);
        if (level == levels - 1) break;
        for (int64_t dy = 0; dy < 2; ++dy)
            up[level][dy] = read.transposed("up." + std::to_string(level), dy, 2 * out, out);
        merge[level][0] =
            read.convolution(numbered("merge.", level, 0), 3, {{out, out}, {out, out}}, out);
        merge[level][1] = read.convolution(numbered("merge.", level, 1), 3, {{out, out}}, out);
    }
    head = read.convolution("head", 1, {{width, width}}, classes);
}

}  // namespace fastseg::cpu::echo_unet
