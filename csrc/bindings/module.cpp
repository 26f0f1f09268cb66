#include "bindings/module.h"

#include "bindings/device.h"

NB_MODULE(_core, module) {
    module.doc() = "The native kernels; fastseg.ops checks their arguments.";
    // A daemon thread may rightly hold values when the interpreter ends.
    nanobind::set_leak_warnings(false);
    fastseg::bindings::add_values(module);
    fastseg::bindings::add_dlpack(module);
    fastseg::bindings::add_images(module);
    fastseg::bindings::add_prompts(module);
    fastseg::bindings::add_masks(module);
    fastseg::bindings::add_boxes(module);
    fastseg::bindings::add_frames(module);
    fastseg::bindings::add_chambers(module);
    fastseg::bindings::add_shapes(module);
    fastseg::bindings::add_decoder(module);
    fastseg::bindings::add_encoder(module);
    fastseg::bindings::add_unet(module);
    auto emulated = module.def_submodule("emulated", "The CUDA kernels' bodies in plain loops.");
    fastseg::bindings::add_device(emulated, fastseg::emulated_kernels());
}
