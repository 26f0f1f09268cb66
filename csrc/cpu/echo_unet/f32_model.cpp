#include "cpu/echo_unet/f32_model.h"

#include <cmath>
#include <stdexcept>
#include <string>

#include "cpu/nn/weight_reader.h"

namespace fastseg::cpu::echo_unet {
namespace {

constexpr int64_t window = nn::winograd_window, points = nn::winograd_points;

// Of three values in a line, [points of an axis, values]: Lagrange's factors at those points.
struct PointFactors {
    PointFactors() {
        constexpr double at[] = {0.0, nn::near_point, -nn::near_point, nn::far_point,
                                 -nn::far_point};
        for (int64_t point = 0; point < window - 1; ++point) {
            double product = 1.0;
            for (const double other : at)
                if (other != at[point]) product *= at[point] - other;
            for (int64_t k = 0; k < 3; ++k)
                rows[point][k] = std::pow(at[point], static_cast<double>(k)) / product;
        }
        rows[window - 1][2] = 1.0;
    }
    double rows[window][3] = {};
};

class Reader : private nn::WeightReader {
  public:
    Reader(const nn::Weights& weights, const nn::DenseKernels& kernels)
        : WeightReader(weights), kernels_(kernels) {}

    // A convolution with 3 x 3 neighbours.
    Matrices winograd(const std::string& name, int64_t in, int64_t out) const {
        static const PointFactors factors;
        const float* from = finite(name + ".weight", {out, in, 3, 3});
        Matrices made = matrices(name, points, in, out);
        for (int64_t o = 0; o < out; ++o)
            for (int64_t i = 0; i < in; ++i) {
                const float* kernel = from + (o * in + i) * 9;
                double across[3][window];  // [row of the kernel, point]
                for (int64_t row = 0; row < 3; ++row)
                    for (int64_t x = 0; x < window; ++x)
                        across[row][x] = dot(factors.rows[x], kernel[3 * row], kernel[3 * row + 1],
                                             kernel[3 * row + 2]);
                for (int64_t point = 0; point < points; ++point) {
                    const int64_t x = point % window;
                    made.at(point, i, o) = static_cast<float>(dot(
                        factors.rows[point / window], across[0][x], across[1][x], across[2][x]));
                }
            }
        return made;
    }

    // The same by rows of neighbours, whose pixels lie side by side.
    Matrices rows(const std::string& name, int64_t in, int64_t out) const {
        const float* from = finite(name + ".weight", {out, in, 3, 3});
        Matrices made = matrices(name, 3, 3 * in, out);
        for (int64_t o = 0; o < out; ++o)
            for (int64_t i = 0; i < in; ++i)
                for (int64_t tap = 0; tap < 9; ++tap)
                    made.at(tap / 3, tap % 3 * in + i, o) = from[(o * in + i) * 9 + tap];
        return made;
    }

    Matrices transposed(const std::string& name, int64_t in, int64_t out) const {
        const float* from = finite(name + ".weight", {in, out, 2, 2});
        Matrices made = matrices(name, 4, in, out);
        for (int64_t i = 0; i < in; ++i)
            for (int64_t o = 0; o < out; ++o)
                for (int64_t part = 0; part < 4; ++part)
                    made.at(part, i, o) = from[(i * out + o) * 4 + part];
        return made;
    }

    Matrices pointwise(const std::string& name, int64_t in, int64_t out) const {
        const float* from = finite(name + ".weight", {out, in, 1, 1});
        Matrices made = matrices(name, 1, in, out);
        for (int64_t o = 0; o < out; ++o)
            for (int64_t i = 0; i < in; ++i) made.at(0, i, o) = from[o * in + i];
        return made;
    }

  private:
    static double dot(const double* factors, double a, double b, double c) {
        return factors[0] * a + factors[1] * b + factors[2] * c;
    }

    Matrices matrices(const std::string& name, int64_t count, int64_t in, int64_t out) const {
        Matrices made(kernels_, count, in, out);
        const float* bias = finite(name + ".bias", {out});
        made.bias.assign(bias, bias + out);
        return made;
    }

    // Sums at the points would lose where in a tile a value that is not finite comes from.
    const float* finite(const std::string& name, const std::vector<int64_t>& shape) const {
        const float* found = data(name, shape);
        int64_t count = 1;
        for (const int64_t size : shape) count *= size;
        for (int64_t each = 0; each < count; ++each)
            if (!std::isfinite(found[each]))
                throw std::invalid_argument(name + " has values that are not finite");
        return found;
    }

    const nn::DenseKernels& kernels_;
};

}  // namespace

Matrices::Matrices(const nn::DenseKernels& kernels, int64_t count, int64_t in, int64_t out)
    : count(count),
      in(in),
      out(out),
      columns(kernels.columns),
      panels((out + columns - 1) / columns),
      data(nn::float_buffer(count * panels * in * columns)) {}

ModelF32::ModelF32(const nn::Weights& weights, const Sizes& sizes, const nn::KernelTable& table)
    : Sizes(sizes), table(table) {
    const Reader read(weights, *table.dense);
    for (int64_t level = 0; level < levels; ++level) {
        const int64_t out = width_of(level);
        const std::string first = layer_name("down.", level, 0);
        down[level][0] =
            level ? read.winograd(first, out / 2, out) : read.rows(first, channels, out);
        down[level][1] = read.winograd(layer_name("down.", level, 1), out, out);
        if (level == levels - 1) break;
        up[level] = read.transposed("up." + std::to_string(level), 2 * out, out);
        merge[level][0] = read.winograd(layer_name("merge.", level, 0), 2 * out, out);
        merge[level][1] = read.winograd(layer_name("merge.", level, 1), out, out);
    }
    head = read.pointwise("head", width, classes);
}

}  // namespace fastseg::cpu::echo_unet
