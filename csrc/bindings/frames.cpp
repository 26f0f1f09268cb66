#include <nanobind/stl/tuple.h>

#include <stdexcept>

#include "bindings/arrays.h"
#include "bindings/module.h"
#include "bindings/released_gil.h"

namespace fastseg::bindings {

using namespace nb::literals;

namespace {

using AnyFrame = nb::ndarray<nb::ro, nb::numpy, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using Box = std::tuple<int64_t, int64_t, int64_t, int64_t>;
using HeightWidth = std::tuple<int64_t, int64_t>;
using Array32 = nb::ndarray<uint32_t, nb::numpy, nb::ndim<1>>;

Window window_of(const Box& box) {
    const auto [x0, y0, x1, y1] = box;
    return {x0, y0, x1, y1};
}

template <class T>
Pixels<T> pixels_of(const AnyFrame& frame) {
    return {static_cast<const T*>(frame.data()),
            {static_cast<int64_t>(frame.shape(0)), static_cast<int64_t>(frame.shape(1))},
            static_cast<int64_t>(frame.shape(2))};
}

FramePixels frame_pixels_of(const AnyFrame& frame) {
    if (frame.dtype() == nb::dtype<uint8_t>()) return pixels_of<uint8_t>(frame);
    if (frame.dtype() == nb::dtype<float>()) return pixels_of<float>(frame);
    throw std::invalid_argument("a frame holds uint8 or float32");
}

void frame_input(const AnyFrame& frame, const Box& window, const Out<float, 3>& out, int threads) {
    const FramePixels pixels = frame_pixels_of(frame);
    const ReleasedGil released;
    cpu::frame_input(pixels, window_of(window), static_cast<int64_t>(out.shape(1)), out.data(),
                     threads);
}

Array32 masks_to_frame(const In<uint8_t, 3>& masks, const Box& window, HeightWidth size,
                       const Out<int64_t, 1>& offsets, int threads) {
    const int64_t height = static_cast<int64_t>(masks.shape(1));
    const int64_t width = static_cast<int64_t>(masks.shape(2));
    const Planes<const uint8_t> planes{masks.data(), static_cast<int64_t>(masks.shape(0)), height,
                                       width, height * width};
    Grown<uint32_t> counts;
    {
        const ReleasedGil released;
        const auto [frame_height, frame_width] = size;
        cpu::masks_to_frame(planes, window_of(window), {frame_height, frame_width},
                            {counts.allocate(), offsets.data()}, threads);
    }
    return counts.array();
}

}  // namespace

void add_frames(nb::module_& module) {
    module.def("frame_input", &frame_input, "frame"_a.noconvert(), "window"_a, "out"_a.noconvert(),
               "threads"_a,
               nb::sig("def frame_input(frame: NDArray[numpy.uint8] | NDArray[numpy.float32], "
                       "window: tuple[int, int, int, int], out: NDArray[numpy.float32], "
                       "threads: int) -> None"));
    module.def("masks_to_frame", &masks_to_frame, "masks"_a.noconvert(), "window"_a, "size"_a,
               "offsets"_a.noconvert(), "threads"_a);
}

}  // namespace fastseg::bindings
