#include "cpu/sam_encoder/encoder.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>

#include "bindings/arrays.h"
#include "bindings/module.h"
#include "bindings/released_gil.h"
#include "bindings/weights.h"

namespace fastseg::bindings {

using namespace nb::literals;

namespace {

using cpu::sam_encoder::Encoder;

std::unique_ptr<Encoder> encoder_open(const nb::dict& weights, const std::string& kernel_table) {
    const cpu::nn::Weights found = weights_by_name(weights);
    const ReleasedGil released;
    return std::make_unique<Encoder>(found, kernel_table);
}

// Features are those of SAM-HQ.
void encoder_run(const Encoder& encoder, const In<float, 4>& images,
                 const Out<float, 4>& embeddings, std::optional<Out<float, 4>> features,
                 int threads) {
    const auto count = static_cast<int64_t>(images.shape(0));
    const int64_t pixels = 3 * encoder.pixels() * encoder.pixels();
    const int64_t tokens = encoder.grid() * encoder.grid();
    for (int64_t index = 0; index < count; ++index) {
        float* own =
            features ? features->data() + index * 16 * tokens * cpu::sam_encoder::feature_channels
                     : nullptr;
        encoder.run(images.data() + index * pixels,
                    embeddings.data() + index * tokens * cpu::sam_encoder::out_width, own, threads);
    }
}

}  // namespace

void add_encoder(nb::module_& module) {
    using Guard = nb::call_guard<ReleasedGil>;
    nb::class_<Encoder>(module, "Encoder");
    module.def("encoder_open", &encoder_open, "weights"_a, "kernel_table"_a);
    module.def("encoder_has_features", &Encoder::has_features, "encoder"_a);
    module.def("encoder_side", &Encoder::pixels, "encoder"_a);
    module.def("encoder_run", &encoder_run, "encoder"_a, "images"_a.noconvert(),
               "embeddings"_a.noconvert(), "features"_a.noconvert().none(), "threads"_a, Guard());
}

}  // namespace fastseg::bindings
