#include "cpu/sam_decoder/mask_head.h"

#include <algorithm>
#include <cstring>

#include "cpu/sam_decoder/canvas_head.h"

namespace fastseg::cpu::sam_decoder {
namespace {

// A part [rows, tile] of a map of higher resolution.
const float* part_of(const std::byte* parts, int64_t part, int64_t rows) {
    return reinterpret_cast<const float*>(parts) + part * rows * tile_size;
}

}  // namespace

MaskHead::MaskHead(const Model& model) : model_(model) {
    const int64_t n = tile_size;
    vectors_ = float_buffer(slots * vector_size);
    upscaled_ = float_buffer(width / 4 * n);
    packed_upscaled_ = Buffer(width * n * model.element());
    canvas_ = float_buffer(4 * vector_size * n);
    drawn_ = float_buffer(16 * slots * n);
}

void MaskHead::draw(const FirstStep& first, const ConstStateTile& state, int64_t tile,
                    const MaskTargets& targets, const Ahead& ahead, CanvasHead* canvas_head) {
    const KernelTable& table = model_.table;
    const Upscaling& head = model_.head;
    const int64_t n = tile_size, quarter = width / 4;
    set_vectors(targets);
    float* upscaled = upscaled_.floats();
    float* canvas = canvas_.floats();
    const bool maps = model_.kind == Kind::sam2;
    for (int64_t part = 0; part < 4; ++part) {
        if (ahead.data) prefetch(ahead.data + part * (ahead.bytes / 4), ahead.bytes / 4);
        first.write(part, upscaled);
        if (maps) {
            const float* middle = part_of(state.middle, part, quarter);
            for (int64_t i = 0; i < quarter * n; ++i) upscaled[i] += middle[i];
        }
        if (model_.kind == Kind::efficient_sam) {
            canvas_head->keep(tile, part, upscaled, first.bias + part * quarter);
            continue;
        }
        table.norm_gelu(upscaled, first.bias + part * quarter, head.norm.scale.data(),
                        head.norm.shift.data(), packed_upscaled_.bytes());
        const void* packed_b =
            table.bf16 ? static_cast<const void*>(packed_upscaled_.bytes()) : upscaled;
        if (maps)
            std::copy_n(part_of(state.fine, part, 4 * vector_size), 4 * vector_size * n, canvas);
        table.gemm({head.second.bytes(), quarter, packed_b, b_stride(table, quarter, n), canvas, n,
                    4 * vector_size, n, quarter, maps});
        if (canvas_head) {
            table.scale_gelu(canvas, 4 * vector_size, model_.hq.canvas_scale.data(),
                             model_.hq.canvas_shift.data());
            canvas_head->keep(tile, part, canvas, nullptr);
            multiply(canvas, part, targets.masks);
        } else {
            table.gelu_dot(canvas, head.second_bias.data(), vectors_.floats(), targets.masks,
                           drawn_.floats() + part * targets.masks * 4 * n);
        }
    }
    if (model_.kind != Kind::efficient_sam) write_pixels(tile, targets);
}

void MaskHead::draw_scaled(const float* rows, int64_t tile, const MaskTargets& targets,
                           const float* scale, const float* shift) {
    const KernelTable& table = model_.table;
    const int64_t n = tile_size, quarter = width / 4;
    set_vectors(targets);
    float* upscaled = upscaled_.floats();
    for (int64_t part = 0; part < 4; ++part) {
        std::copy_n(rows + part * quarter * n, quarter * n, upscaled);
        table.scale_gelu(upscaled, quarter, scale, shift);
        table.gemm_f32({model_.head.second.floats(), quarter, upscaled, n, canvas_.floats(), n,
                        4 * vector_size, n, quarter, false});
        table.gelu_dot(canvas_.floats(), model_.head.second_bias.data(), vectors_.floats(),
                       targets.masks, drawn_.floats() + part * targets.masks * 4 * n);
    }
    write_pixels(tile, targets);
}

void MaskHead::set_vectors(const MaskTargets& targets) {
    for (int64_t mask = 0; mask < targets.masks; ++mask)
        std::memcpy(vectors_.floats() + mask * vector_size, targets.vectors[mask],
                    vector_size * sizeof(float));
}

void MaskHead::multiply(const float* canvas, int64_t part, int64_t masks) const {
    const int64_t n = tile_size;
    for (int64_t finer = 0; finer < 4; ++finer)
        model_.table.gemm_f32({vectors_.floats(), vector_size, canvas + finer * vector_size * n, n,
                               drawn_.floats() + (part * masks * 4 + finer) * n, 4 * n, masks, n,
                               vector_size, false});
}

void MaskHead::write_pixels(int64_t tile, const MaskTargets& targets) const {
    const int64_t n = tile_size, grid = model_.grid, side = 4 * grid;
    const int64_t first = tile * n, end = std::min(first + n, model_.image_tokens());
    for (int64_t mask = 0; mask < targets.masks; ++mask) {
        for (int64_t row = 0; row < 4; ++row) {
            // Two sub-pixels of the first step side by side, each with two of the second.
            const float* from[4];
            for (int64_t column = 0; column < 4; ++column) {
                const int64_t part = row / 2 * 2 + column / 2, finer = row % 2 * 2 + column % 2;
                from[column] = drawn_.floats() + ((part * targets.masks + mask) * 4 + finer) * n;
            }
            for (int64_t at = first; at < end;) {
                const int64_t y = at / grid, x = at % grid, count = std::min(grid - x, end - at);
                float* to = targets.planes[mask] + (4 * y + row) * side + 4 * x;
                const int64_t offset = at - first;
                for (int64_t i = 0; i < count; ++i)
                    for (int64_t column = 0; column < 4; ++column)
                        to[4 * i + column] = from[column][offset + i];
                at += count;
            }
        }
    }
}

}  // namespace fastseg::cpu::sam_decoder
