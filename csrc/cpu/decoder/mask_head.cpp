#include "cpu/decoder/mask_head.h"

#include <algorithm>

namespace fastseg::cpu::decoder {

Pen::Pen(const Model& model, int64_t longest)
    : model_(model),
      sweep_(model, longest),
      sent_{Sent(model, longest, false), Sent(model, longest, true)} {
    const int64_t n = tile_size;
    scratch_ = float_buffer(2 * width * std::max(model.padded(heads * longest), n));
    half_ = float_buffer(width / 4 * n);
    half_as_b_ = Buffer(width * n * model.element());
    canvas_ = float_buffer(4 * vector_size * n);
    drawn_ = float_buffer(16 * slots * n);
    own_ = Buffer(state_tile_bytes(model));
}

void Pen::take(const Memory& memory) {
    memory_ = memory;
    for (int layer = 0; layer < 2; ++layer)
        sent_[layer].fill(model_, model_.layers[layer].update, memory.keys(layer),
                          memory.values(layer), memory.tokens(), scratch_.floats());
}

void Pen::draw(std::byte* state, TileRange tiles, const float* vectors, int64_t masks,
               float* logits) {
    const int64_t area = 16 * model_.places();
    for (int64_t tile = tiles.first; tile < tiles.end; ++tile) {
        sweep_.update_first(image(state, tile), sent_[0], memory_.tokens(), 0, false);
        sweep_.update_second(tile, sent_[1], memory_.tokens(), 0, false);
        ahead_ = tile + 1 < tiles.end ? state + (tile + 1) * state_tile_bytes(model_) : nullptr;
        for (int64_t mask = 0; mask < masks; mask += slots) {
            const int64_t some = std::min(slots, masks - mask);
            upscale(vectors + mask * vector_size, some);
            place(tile, some, logits + mask * area);
        }
    }
}

StateTile Pen::image(std::byte* state, int64_t tile) {
    const StateTile plain = state_tile(model_, state + tile * state_tile_bytes(model_));
    if (!memory_.masked()) return plain;
    const StateTile masked = state_tile(model_, own_.bytes());
    fill_masked_tile(model_, plain, memory_.mask(), tile, masked, scratch_.floats());
    return masked;
}

void Pen::upscale(const float* vectors, int64_t masks) {
    const Table& table = model_.table;
    const MaskHead& head = model_.head;
    const int64_t n = tile_size, quarter = width / 4;
    float* half = half_.floats();
    for (int64_t part = 0; part < 4; ++part) {
        // The image is larger than the cache; there is time to fetch some of the next tile.
        if (ahead_) fetch(ahead_ + part * (width * n), width * n);
        table.product({head.first.bytes() + a_offset(table, width, part * quarter, 0), width,
                       sweep_.image(), b_stride(table, width, n), half, n, quarter, n, width,
                       false});
        table.norm_gelu(half, head.first_bias.data(), head.norm.scale.data(),
                        head.norm.shift.data(), half_as_b_.bytes());
        const void* as_b = table.half ? static_cast<const void*>(half_as_b_.bytes()) : half;
        table.product({head.second.bytes(), quarter, as_b, b_stride(table, quarter, n),
                       canvas_.floats(), n, 4 * vector_size, n, quarter, false});
        table.gelu_dot(canvas_.floats(), head.second_bias.data(), vectors, masks,
                       drawn_.floats() + part * masks * 4 * n);
    }
}

void Pen::place(int64_t tile, int64_t masks, float* logits) const {
    const int64_t n = tile_size, grid = model_.grid, side = 4 * grid;
    const int64_t first = tile * n, end = std::min(first + n, model_.places());
    for (int64_t mask = 0; mask < masks; ++mask) {
        for (int64_t row = 0; row < 4; ++row) {
            // Two sub-pixels of the first step side by side, each with two of the second.
            const float* from[4];
            for (int64_t column = 0; column < 4; ++column) {
                const int64_t part = row / 2 * 2 + column / 2, finer = row % 2 * 2 + column % 2;
                from[column] = drawn_.floats() + ((part * masks + mask) * 4 + finer) * n;
            }
            for (int64_t at = first; at < end;) {
                const int64_t y = at / grid, x = at % grid, count = std::min(grid - x, end - at);
                float* to = logits + mask * side * side + (4 * y + row) * side + 4 * x;
                const int64_t offset = at - first;
                for (int64_t i = 0; i < count; ++i)
                    for (int64_t column = 0; column < 4; ++column)
                        to[4 * i + column] = from[column][offset + i];
                at += count;
            }
        }
    }
}

}  // namespace fastseg::cpu::decoder
