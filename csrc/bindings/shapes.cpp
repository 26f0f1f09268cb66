#include <stdexcept>

#include "bindings/arrays.h"
#include "bindings/module.h"
#include "bindings/released_gil.h"

namespace fastseg::bindings {

using namespace nb::literals;

namespace {

static_assert(sizeof(ShapeMeasures) == 14 * sizeof(double));

// measures [masks, 14] in the order of the struct, chords [masks, disks, 4], diameters alike.
void measure_shapes(const In<uint8_t, 3>& masks, int rule, const Out<double, 2>& measures,
                    const Out<double, 3>& chords, const Out<double, 2>& diameters, int threads) {
    if (rule < 0 || rule > static_cast<int>(AxisRule::as_published)) {
        throw std::invalid_argument("there is no such rule for the axis");
    }
    if (measures.shape(1) * sizeof(double) != sizeof(ShapeMeasures)) {
        throw std::invalid_argument("measures has not a column for every measure");
    }
    const int64_t height = static_cast<int64_t>(masks.shape(1));
    const int64_t width = static_cast<int64_t>(masks.shape(2));
    const Planes<const uint8_t> planes{masks.data(), static_cast<int64_t>(masks.shape(0)), height,
                                       width, height * width};
    const DiskSettings disk_settings{static_cast<int64_t>(diameters.shape(1)),
                                     static_cast<AxisRule>(rule)};
    cpu::measure_shapes(
        planes, disk_settings,
        {reinterpret_cast<ShapeMeasures*>(measures.data()), chords.data(), diameters.data()},
        threads);
}

}  // namespace

void add_shapes(nb::module_& module) {
    module.def("measure_shapes", &measure_shapes, "masks"_a.noconvert(), "rule"_a,
               "measures"_a.noconvert(), "chords"_a.noconvert(), "diameters"_a.noconvert(),
               "threads"_a, nb::call_guard<ReleasedGil>());
}

}  // namespace fastseg::bindings
