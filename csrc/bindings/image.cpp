#include <nanobind/stl/tuple.h>

#include <algorithm>

#include "bindings/arrays.h"
#include "bindings/module.h"
#include "bindings/released_gil.h"

namespace fastseg::bindings {

using namespace nb::literals;

namespace {

Image image_of(const In<uint8_t, 3>& image) {
    if (image.shape(2) != 3) throw std::invalid_argument("an image has three channels");
    return {image.data(),
            {static_cast<int64_t>(image.shape(0)), static_cast<int64_t>(image.shape(1))}};
}

void resize_bilinear(const In<uint8_t, 3>& image, const Out<uint8_t, 3>& out, int threads) {
    const Size size{static_cast<int64_t>(out.shape(0)), static_cast<int64_t>(out.shape(1))};
    cpu::resize_bilinear(image_of(image), size, out.data(), threads);
}

void preprocess(const In<uint8_t, 3>& image, const Frame& frame, const In<float, 1>& mean,
                const In<float, 1>& deviation, const Out<float, 3>& out, int threads) {
    Normalisation normalisation;
    std::copy_n(mean.data(), 3, normalisation.mean);
    std::copy_n(deviation.data(), 3, normalisation.deviation);
    cpu::preprocess(image_of(image), frame, normalisation, out.data(), threads);
}

void ycbcr_to_rgb(const In<uint8_t, 2>& pixels, const Out<uint8_t, 2>& out, int threads) {
    if (pixels.shape(1) != 3 || out.shape(1) != 3 || pixels.shape(0) != out.shape(0)) {
        throw std::invalid_argument("pixels and out have three channels and one length");
    }
    cpu::ycbcr_to_rgb(pixels.data(), static_cast<int64_t>(pixels.shape(0)), out.data(), threads);
}

Planes<const float> planes_of(const In<float, 3>& planes) {
    const auto size = [&](size_t axis) { return static_cast<int64_t>(planes.shape(axis)); };
    return {planes.data(), size(0), size(1), size(2), size(1) * size(2)};
}

void enlarge_cubic(const In<float, 3>& planes, const std::tuple<int64_t, int64_t>& size,
                   const Out<float, 3>& out, int threads) {
    const auto [height, width] = size;
    const auto length = [&](size_t axis) { return static_cast<int64_t>(out.shape(axis)); };
    cpu::enlarge_cubic(planes_of(planes), {height, width},
                       {out.data(), length(0), length(1), length(2), length(1) * length(2)},
                       threads);
}

void palette_to_rgb(const In<uint8_t, 1>& indices, const In<uint8_t, 2>& colours,
                    const Out<uint8_t, 2>& out, int threads) {
    if (colours.shape(0) != 256 || colours.shape(1) != 3 || out.shape(1) != 3 ||
        out.shape(0) != indices.shape(0)) {
        throw std::invalid_argument("a palette has 256 colours of three channels, out one each");
    }
    cpu::palette_to_rgb(indices.data(), static_cast<int64_t>(indices.shape(0)), colours.data(),
                        out.data(), threads);
}

}  // namespace

void add_images(nb::module_& module) {
    module.def("resize_bilinear", &resize_bilinear, "image"_a.noconvert(), "out"_a.noconvert(),
               "threads"_a, nb::call_guard<ReleasedGil>());
    module.def("preprocess", &preprocess, "image"_a.noconvert(), "frame"_a, "mean"_a.noconvert(),
               "deviation"_a.noconvert(), "out"_a.noconvert(), "threads"_a,
               nb::call_guard<ReleasedGil>());
    module.def("enlarge_cubic", &enlarge_cubic, "planes"_a.noconvert(), "size"_a,
               "out"_a.noconvert(), "threads"_a, nb::call_guard<ReleasedGil>());
    module.def("palette_to_rgb", &palette_to_rgb, "indices"_a.noconvert(), "colours"_a.noconvert(),
               "out"_a.noconvert(), "threads"_a, nb::call_guard<ReleasedGil>());
    module.def("ycbcr_to_rgb", &ycbcr_to_rgb, "pixels"_a.noconvert(), "out"_a.noconvert(),
               "threads"_a, nb::call_guard<ReleasedGil>());
}

}  // namespace fastseg::bindings
