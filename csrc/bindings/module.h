// The groups of functions that make up fastseg._core.
#pragma once

#include <nanobind/nanobind.h>

namespace fastseg::bindings {

void add_values(nanobind::module_& module);
void add_dlpack(nanobind::module_& module);
void add_images(nanobind::module_& module);
void add_prompts(nanobind::module_& module);
void add_masks(nanobind::module_& module);
void add_boxes(nanobind::module_& module);
void add_frames(nanobind::module_& module);
void add_chambers(nanobind::module_& module);
void add_shapes(nanobind::module_& module);
void add_decoder(nanobind::module_& module);
void add_encoder(nanobind::module_& module);
void add_unet(nanobind::module_& module);

}  // namespace fastseg::bindings
