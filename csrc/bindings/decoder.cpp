#include "cpu/sam_decoder/decoder.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include "bindings/arrays.h"
#include "bindings/module.h"
#include "bindings/released_gil.h"
#include "bindings/weights.h"
#include "cpu/nn/peak_rates.h"

namespace fastseg::bindings {

using namespace nb::literals;

namespace {

using cpu::sam_decoder::Decoder;

// Weights by name; they are copied into the decoder's own layout.
std::unique_ptr<Decoder> decoder_open(const nb::dict& weights, int64_t grid, int64_t side,
                                      const std::string& kernel_table) {
    const cpu::nn::Weights found = weights_by_name(weights);
    const ReleasedGil released;
    return std::make_unique<Decoder>(found, grid, side, kernel_table);
}

// Floats of the state of an image, of the state of a prompt with `points`, and of a mask's vector.
std::tuple<int64_t, int64_t, int64_t> decoder_sizes(const Decoder& decoder, int64_t points,
                                                    bool with_mask) {
    return {decoder.state_size(), decoder.prompt_state_size(points, with_mask), decoder.vector()};
}

// `maps` hold as many floats each as `decoder_maps` says.
void decoder_image_state(const Decoder& decoder, const std::vector<In<float, 1>>& maps,
                         const Out<float, 2>& state, int threads) {
    std::vector<const float*> data;
    for (const In<float, 1>& map : maps) data.push_back(map.data());
    decoder.image_state(data, state.data(), threads);
}

void decoder_decode(const Decoder& decoder, const In<float, 3>& points,
                    const In<int32_t, 2>& labels, std::optional<In<float, 4>> masks,
                    const In<float, 2>& states, const In<int32_t, 1>& image_index,
                    const Out<float, 2>& ious, const Out<float, 3>& vectors,
                    const Out<float, 2>& prompt_state, int threads) {
    const int64_t count = static_cast<int64_t>(labels.shape(0));
    const int64_t points_each = static_cast<int64_t>(labels.shape(1));
    decoder.decode({points.data(), labels.data(), masks ? masks->data() : nullptr,
                    image_index.data(), count, points_each},
                   states.data(), static_cast<int64_t>(states.shape(0)),
                   {ious.data(), vectors.data(), prompt_state.data()}, threads);
}

void decoder_decode_above(const Decoder& decoder, const In<float, 3>& points,
                          const In<int32_t, 2>& labels, std::optional<In<float, 4>> masks,
                          const In<float, 2>& states, float above, const Out<float, 2>& ious,
                          int64_t first, int64_t end, const Out<float, 4>& logits, int64_t rows,
                          int64_t columns, int threads) {
    const int64_t count = static_cast<int64_t>(labels.shape(0));
    const std::vector<int32_t> first_image(static_cast<size_t>(count), 0);
    decoder.decode_above({points.data(), labels.data(), masks ? masks->data() : nullptr,
                          first_image.data(), count, static_cast<int64_t>(labels.shape(1))},
                         states.data(), static_cast<int64_t>(states.shape(0)), ious.data(),
                         {above, first, end, logits.data(), rows, columns}, threads);
}

void decoder_draw(const Decoder& decoder, const In<float, 2>& prompt_state,
                  const In<float, 3>& vectors, const In<float, 2>& states,
                  const In<int32_t, 1>& image_index, const Out<float, 4>& logits, int threads) {
    decoder.draw(
        {prompt_state.data(), vectors.data(), image_index.data(),
         static_cast<int64_t>(prompt_state.shape(0)), static_cast<int64_t>(prompt_state.shape(1)),
         static_cast<int64_t>(vectors.shape(1)), logits.data()},
        states.data(), static_cast<int64_t>(states.shape(0)), threads);
}

std::pair<double, double> peak_rates(const std::string& kernel_table, int threads) {
    const cpu::nn::KernelTable* table = cpu::nn::find_kernel_table(kernel_table.c_str());
    if (!table || !table->dense) throw std::invalid_argument("no float32 table " + kernel_table);
    const cpu::nn::PeakRates found = cpu::nn::measure_peak_rates(*table, threads);
    return {found.multiply_add, found.product};
}

}  // namespace

void add_decoder(nb::module_& module) {
    using Guard = nb::call_guard<ReleasedGil>;
    nb::class_<Decoder>(module, "Decoder");
    module.def("kernel_tables", &cpu::sam_decoder::kernel_table_names);
    module.def("peak_rates", &peak_rates, "kernel_table"_a, "threads"_a, Guard());
    module.def("decoder_open", &decoder_open, "weights"_a, "grid"_a, "side"_a, "kernel_table"_a);
    module.def("decoder_sizes", &decoder_sizes, "decoder"_a, "points"_a, "with_mask"_a);
    module.def(
        "decoder_maps", [](const Decoder& decoder) { return decoder.map_sizes(); }, "decoder"_a);
    module.def("decoder_image_state", &decoder_image_state, "decoder"_a, "maps"_a.noconvert(),
               "state"_a.noconvert(), "threads"_a, Guard());
    module.def("decoder_decode", &decoder_decode, "decoder"_a, "points"_a.noconvert(),
               "labels"_a.noconvert(), "masks"_a.noconvert().none(), "states"_a.noconvert(),
               "image_index"_a.noconvert(), "ious"_a.noconvert(), "vectors"_a.noconvert(),
               "prompt_state"_a.noconvert(), "threads"_a, Guard());
    module.def("decoder_decode_above", &decoder_decode_above, "decoder"_a, "points"_a.noconvert(),
               "labels"_a.noconvert(), "masks"_a.noconvert().none(), "states"_a.noconvert(),
               "above"_a, "ious"_a.noconvert(), "first"_a, "end"_a, "logits"_a.noconvert(),
               "rows"_a, "columns"_a, "threads"_a, Guard());
    module.def("decoder_draw", &decoder_draw, "decoder"_a, "prompt_state"_a.noconvert(),
               "vectors"_a.noconvert(), "states"_a.noconvert(), "image_index"_a.noconvert(),
               "logits"_a.noconvert(), "threads"_a, Guard());
}

}  // namespace fastseg::bindings
