#include "cpu/echo_unet/x86/model.h"

#include <string>

#include "cpu/nn/weight_reader.h"

namespace fastseg::cpu::echo_unet {
namespace {

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

}  // namespace

Model::Model(const nn::Weights& weights, const Sizes& sizes, const nn::KernelTable& table)
    : Sizes(sizes), table(table) {
    const Reader read(weights, table);
    for (int64_t level = 0; level < levels; ++level) {
        const int64_t out = width_of(level), in = level ? out / 2 : channels;
        down[level][0] = read.convolution(layer_name("down.", level, 0), 3,
                                          {{in, level ? in : frame_channels}}, out);
        down[level][1] = read.convolution(layer_name("down.", level, 1), 3, {{out, out}}, out);
        if (level == levels - 1) break;
        for (int64_t dy = 0; dy < 2; ++dy)
            up[level][dy] = read.transposed("up." + std::to_string(level), dy, 2 * out, out);
        merge[level][0] =
            read.convolution(layer_name("merge.", level, 0), 3, {{out, out}, {out, out}}, out);
        merge[level][1] = read.convolution(layer_name("merge.", level, 1), 3, {{out, out}}, out);
    }
    head = read.convolution("head", 1, {{width, width}}, classes);
}

}  // namespace fastseg::cpu::echo_unet
