#include "cpu/sam_decoder/decoder.h"

#include <algorithm>
#include <stdexcept>

#include "cpu/nn/tile_config_guard.h"
#include "cpu/sam_decoder/canvas_head.h"
#include "cpu/sam_decoder/mask_renderer.h"
#include "cpu/sam_decoder/prompt_batch.h"
#include "cpu/sam_decoder/prompt_state.h"
#include "cpu/support/parallel.h"

namespace fastseg::cpu::sam_decoder {
namespace {

constexpr double nanoseconds_per_prompt = 2e6;

const KernelTable& choose(const std::string& name) {
    if (const KernelTable* table = find_kernel_table(name.c_str())) return *table;
    throw std::invalid_argument("this processor has no table " + name);
}

void check_images(const int32_t* index, int64_t count, int64_t images) {
    for (int64_t prompt = 0; prompt < count; ++prompt)
        if (index[prompt] < 0 || index[prompt] >= images)
            throw std::invalid_argument("image_index must be in 0.." + std::to_string(images - 1) +
                                        ", not " + std::to_string(index[prompt]));
}

void check(const Prompts& prompts, int64_t images) {
    check_images(prompts.image_index, prompts.count, images);
    for (int64_t i = 0; i < prompts.count * prompts.points_each; ++i)
        if (prompts.labels[i] < -1 || prompts.labels[i] > 3)
            throw std::invalid_argument("point_labels must be in -1..3, not " +
                                        std::to_string(prompts.labels[i]));
}

// First and end of prompts that follow each other on one image, at most `most` of them. The last
// batches are smaller, so that no thread of the team waits long for another at the end.
std::vector<std::pair<int64_t, int64_t>> batches_of(const int32_t* image_index, int64_t count,
                                                    int64_t most, int64_t team) {
    std::vector<std::pair<int64_t, int64_t>> batches;
    for (int64_t first = 0, end = 0; first < count; first = end) {
        const int64_t share = (count - first + 2 * team - 1) / (2 * team);
        const int64_t even = (share + PromptBatch::prompts_a_tile - 1) /
                             PromptBatch::prompts_a_tile * PromptBatch::prompts_a_tile;
        const int64_t size = std::min(most, team == 1 ? most : even);
        while (end < count && end - first < size && image_index[end] == image_index[first]) ++end;
        batches.emplace_back(first, end);
    }
    return batches;
}

}  // namespace

Decoder::Decoder(const Weights& weights, int64_t grid, int64_t side,
                 const std::string& kernel_table)
    : model_(weights, grid, side, choose(kernel_table)) {
    if (model_.table.bf16 && model_.whole_canvas())
        throw std::invalid_argument("this decoder is computed in float32 alone");
}

int64_t Decoder::state_size() const {
    return state_bytes(model_) / 4;
}

int64_t Decoder::prompt_state_size(int64_t points, bool with_mask) const {
    return PromptState::size(model_.fixed() + points, with_mask ? model_.image_tokens() : 0);
}

void Decoder::image_state(const ImageMaps& maps, float* state, int threads) const {
    if (model_.kind == Kind::sam_hq) {
        const int64_t features = vector_size * model_.area();  // the end of a state
        std::copy_n(maps[1], features, state + state_size() - features);
    }
    const int64_t tile_floats = tile_size * width;
    parallel_for(team_size(threads, model_.tiles(), 1e7), model_.tiles(), [&] {
        auto floats = std::make_shared<Buffer>(3 * tile_floats * 4);
        return [&, floats](int64_t tile) {
            fill_state_tile(model_, maps, tile, reinterpret_cast<std::byte*>(state),
                            floats->floats());
        };
    });
}

void Decoder::decode(const Prompts& prompts, const float* states, int64_t images,
                     const DecodeResult& result, int threads) const {
    run(prompts, states, images, result, {0.0f, 0, slots, nullptr, 0, 0}, threads);
}

void Decoder::decode_above(const Prompts& prompts, const float* states, int64_t images, float* ious,
                           const MasksAbove& masks, int threads) const {
    const int64_t side = 4 * model_.grid;
    if (masks.rows < 1 || masks.rows > side || masks.columns < 1 || masks.columns > side)
        throw std::invalid_argument("rows and columns must be in 1.." + std::to_string(side));
    if (masks.first < 0 || masks.first >= masks.end || masks.end > slots)
        throw std::invalid_argument("slots must be some of 0.." + std::to_string(slots));
    const Buffer vectors = float_buffer(prompts.count * slots * model_.vector());
    run(prompts, states, images, {ious, vectors.floats(), nullptr}, masks, threads);
}

void Decoder::run(const Prompts& prompts, const float* states, int64_t images,
                  const DecodeResult& result, const MasksAbove& masks, int threads) const {
    check(prompts, images);
    if (prompts.masks && model_.kind == Kind::efficient_sam)
        throw std::invalid_argument("this decoder takes no mask prompts");
    const int64_t tokens = model_.fixed() + prompts.points_each;
    const int64_t state_floats = prompt_state_size(prompts.points_each, prompts.masks != nullptr);
    const double nanoseconds = static_cast<double>(prompts.count) * nanoseconds_per_prompt;
    // Fewer prompts than threads are decoded one after another, each by as many threads as an image
    // has parts for.
    const int64_t parts = PromptBatch::parts(model_);
    const int all = team_size(threads, prompts.count * parts, nanoseconds);
    const bool few = prompts.count < all;
    const int team = few ? 1 : all, each = few ? team_size(all, parts, nanoseconds) : 1;
    // Long prompts, and those whose image is their own, gain nothing from a batch.
    const int64_t most = prompts.masks || tokens > 16 ? 1 : PromptBatch::max_prompts;
    const int64_t size = std::clamp<int64_t>((prompts.count + team - 1) / team, 1, most);
    const auto batches = batches_of(prompts.image_index, prompts.count, size, team);
    const bool low_rank = model_.takes_low_rank(tokens, prompts.masks != nullptr);
    parallel_for(team, static_cast<int64_t>(batches.size()), [&] {
        const std::shared_ptr<PromptBatch> batch =
            make_prompt_batch(model_, low_rank, size, tokens, masks.logits != nullptr, each);
        auto own =
            std::make_shared<Buffer>(prompts.masks ? model_.tiles() * state_tile_bytes(model_) : 0);
        auto shrunk = std::make_shared<Buffer>(
            prompts.masks && !result.prompt_state ? mask_channels * model_.image_tokens() * 4 : 0);
        return [&, batch, own, shrunk](int64_t index) {
            const TileConfigGuard tile_config(model_.table);
            const auto [first, end] = batches[static_cast<size_t>(index)];
            const float* state = states + prompts.image_index[first] * state_size();
            PromptImage image{reinterpret_cast<const std::byte*>(state), nullptr};
            for (int64_t prompt = first; result.prompt_state && prompt < end; ++prompt)
                PromptState(result.prompt_state + prompt * state_floats, tokens)
                    .write_header(prompts.masks != nullptr);
            if (prompts.masks) {
                float* kept =
                    result.prompt_state
                        ? PromptState(result.prompt_state + first * state_floats, tokens).mask()
                        : shrunk->floats();
                add_mask(image.state, prompts.masks + first * model_.area(), kept, own->bytes(),
                         each);
                image.masked = own->bytes();
            }
            const DecodeResult part{
                result.ious + first * slots, result.vectors + first * slots * model_.vector(),
                result.prompt_state ? result.prompt_state + first * state_floats : nullptr};
            MasksAbove own_masks = masks;
            if (masks.logits) own_masks.logits += first * masks.masks() * model_.area();
            batch->run(image, prompts.points + first * prompts.points_each * 2,
                       prompts.labels + first * prompts.points_each, end - first, part,
                       state_floats, own_masks);
        };
    });
}

// The state of an image to which a mask prompt is added; `shrunk` is written too.
void Decoder::add_mask(const std::byte* state, const float* mask, float* shrunk, std::byte* to,
                       int threads) const {
    parallel_for(threads, model_.grid,
                 [&] { return [&](int64_t row) { shrink_mask_row(model_, mask, row, shrunk); }; });
    const int64_t bytes = state_tile_bytes(model_);
    parallel_for(threads, model_.tiles(), [&] {
        auto floats = std::make_shared<Buffer>(3 * width * tile_size * 4);
        return [&, floats](int64_t tile) {
            fill_masked_tile(model_, state_tile(model_, state + tile * bytes), shrunk, tile,
                             state_tile(model_, to + tile * bytes), floats->floats());
        };
    });
}

void Decoder::draw(const MaskRequest& request, const float* states, int64_t images,
                   int threads) const {
    check_images(request.image_index, request.count, images);
    int64_t longest = model_.fixed();
    for (int64_t prompt = 0; prompt < request.count; ++prompt)
        longest = std::max(
            longest, PromptState::check(request.prompt_state + prompt * request.prompt_state_size,
                                        request.prompt_state_size, model_.image_tokens()));
    const int team = team_size(threads, request.count * model_.tiles(),
                               static_cast<double>(request.count) * nanoseconds_per_prompt);
    if (model_.whole_canvas()) return draw_whole(request, states, longest, team);
    const auto batches = batches_of(
        request.image_index, request.count,
        std::clamp<int64_t>((request.count + team - 1) / team, 1, MaskRenderer::max_prompts), team);
    // Tiles do not depend on each other, so that few batches are divided into parts.
    const int64_t few = 8 * team, count = static_cast<int64_t>(batches.size());
    const int64_t parts = count < few ? std::min<int64_t>(model_.tiles(), team) : 1;
    parallel_for(team, count * parts, [&] {
        auto renderer = std::make_shared<MaskRenderer>(model_, longest);
        return [&, renderer](int64_t item) {
            const TileConfigGuard tile_config(model_.table);
            const auto [first, end] = batches[static_cast<size_t>(item / parts)];
            std::vector<RenderTask> tasks;
            for (int64_t prompt = first; prompt < end; ++prompt)
                tasks.push_back(render_task(request, prompt));
            renderer->draw(state_of(request, states, first), tiles_of(item % parts, parts), tasks,
                           nullptr);
        };
    });
}

void Decoder::draw_whole(const MaskRequest& request, const float* states, int64_t longest,
                         int team) const {
    // The head needs all tiles of a prompt: few prompts share the threads among parts.
    const bool few = request.count < team;
    const int each = few ? team : 1;
    parallel_for(few ? 1 : team, request.count, [&] {
        const std::shared_ptr<CanvasHead> head = make_canvas_head(model_);
        return [&, head](int64_t prompt) {
            const std::vector<RenderTask> tasks{render_task(request, prompt)};
            const std::byte* state = state_of(request, states, prompt);
            parallel_for(each, each, [&] {
                auto renderer = std::make_shared<MaskRenderer>(model_, longest);
                return [&, renderer](int64_t part) {
                    renderer->draw(state, tiles_of(part, each), tasks, head.get());
                };
            });
            head->finish(state, tasks.front().targets, each);
        };
    });
}

RenderTask Decoder::render_task(const MaskRequest& request, int64_t prompt) const {
    RenderTask task{ConstPromptState(request.prompt_state + prompt * request.prompt_state_size),
                    {}};
    for (int64_t mask = 0; mask < request.masks; ++mask) {
        const int64_t index = prompt * request.masks + mask;
        if (mask % slots == 0) task.targets.emplace_back();
        task.targets.back().add(request.vectors + index * model_.vector(),
                                request.logits + index * model_.area());
    }
    return task;
}

const std::byte* Decoder::state_of(const MaskRequest& request, const float* states,
                                   int64_t prompt) const {
    return reinterpret_cast<const std::byte*>(states + request.image_index[prompt] * state_size());
}

TileRange Decoder::tiles_of(int64_t part, int64_t parts) const {
    return {model_.tiles() * part / parts, model_.tiles() * (part + 1) / parts};
}

std::vector<std::string> kernel_table_names() {
    std::vector<std::string> names;
    for (const KernelTable* const* table = kernel_tables(); *table; ++table)
        names.emplace_back((*table)->name);
    return names;
}

}  // namespace fastseg::cpu::sam_decoder
