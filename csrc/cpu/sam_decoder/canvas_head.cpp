#include "cpu/sam_decoder/canvas_head.h"

#include "cpu/sam_decoder/group_norm_head.h"
#include "cpu/sam_decoder/hq_head.h"

namespace fastseg::cpu::sam_decoder {

std::unique_ptr<CanvasHead> make_canvas_head(const Model& model) {
    if (model.kind == Kind::sam_hq) return std::make_unique<HqHead>(model);
    if (model.kind == Kind::efficient_sam) return std::make_unique<GroupNormHead>(model);
    return nullptr;
}

}  // namespace fastseg::cpu::sam_decoder
