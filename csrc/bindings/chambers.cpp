#include "bindings/arrays.h"
#include "bindings/module.h"
#include "bindings/released_gil.h"

namespace fastseg::bindings {

using namespace nb::literals;

namespace {

// The planes of all channels of all frames, one after another.
Planes<const float> planes_of(const In<float, 4>& probabilities) {
    const int64_t height = static_cast<int64_t>(probabilities.shape(2));
    const int64_t width = static_cast<int64_t>(probabilities.shape(3));
    const int64_t count = static_cast<int64_t>(probabilities.shape(0) * probabilities.shape(1));
    return {probabilities.data(), count, height, width, height * width};
}

void clean_chambers(const In<float, 4>& probabilities, float threshold, bool exclusive,
                    const Out<uint8_t, 4>& out, int threads) {
    const int64_t channels = static_cast<int64_t>(probabilities.shape(1));
    cpu::clean_chambers(planes_of(probabilities), {channels, threshold, exclusive}, out.data(),
                        threads);
}

void chamber_scores(const In<float, 4>& probabilities, const In<uint8_t, 4>& masks,
                    const Out<float, 2>& scores, const Out<float, 2>& stability, int threads) {
    cpu::chamber_scores(planes_of(probabilities), masks.data(), {scores.data(), stability.data()},
                        threads);
}

}  // namespace

void add_chambers(nb::module_& module) {
    using Guard = nb::call_guard<ReleasedGil>;
    module.def("clean_chambers", &clean_chambers, "probabilities"_a.noconvert(), "threshold"_a,
               "exclusive"_a, "out"_a.noconvert(), "threads"_a, Guard());
    module.def("chamber_scores", &chamber_scores, "probabilities"_a.noconvert(),
               "masks"_a.noconvert(), "scores"_a.noconvert(), "stability"_a.noconvert(),
               "threads"_a, Guard());
}

}  // namespace fastseg::bindings
