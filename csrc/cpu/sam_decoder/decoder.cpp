#include "cpu/sam_decoder/decoder.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "cpu/nn/tile_config_guard.h"
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

void check(const Asked& asked, int64_t images) {
    check_images(asked.image_index, asked.count, images);
    for (int64_t i = 0; i < asked.count * asked.points_each; ++i)
        if (asked.labels[i] < -1 || asked.labels[i] > 3)
            throw std::invalid_argument("point_labels must be in -1..3, not " +
                                        std::to_string(asked.labels[i]));
}

// First and end of prompts that follow each other on one image, at most `most` of them. The last
// groups are smaller, so that no thread of the team waits long for another at the end.
std::vector<std::pair<int64_t, int64_t>> neighbours(const int32_t* image_index, int64_t count,
                                                    int64_t most, int64_t team) {
    std::vector<std::pair<int64_t, int64_t>> groups;
    for (int64_t first = 0, end = 0; first < count; first = end) {
        const int64_t share = (count - first + 2 * team - 1) / (2 * team);
        const int64_t even = (share + Group::together - 1) / Group::together * Group::together;
        const int64_t size = std::min(most, team == 1 ? most : even);
        while (end < count && end - first < size && image_index[end] == image_index[first]) ++end;
        groups.emplace_back(first, end);
    }
    return groups;
}

}  // namespace

Decoder::Decoder(const Weights& weights, int64_t grid, int64_t side, const std::string& table)
    : model_(weights, grid, side, choose(table)) {}

int64_t Decoder::state_size() const {
    return model_.tiles() * state_tile_bytes(model_) / 4;
}

int64_t Decoder::memory_size(int64_t points, bool with_mask) const {
    return PromptState::size(outputs + points, with_mask ? model_.places() : 0);
}

void Decoder::image_state(const float* embedding, float* state, int threads) const {
    const int64_t bytes = state_tile_bytes(model_), tile_floats = tile_size * width;
    share(team_size(threads, model_.tiles(), 1e7), model_.tiles(), [&] {
        auto floats = std::make_shared<Buffer>(3 * tile_floats * 4);
        return [&, floats](int64_t tile) {
            auto* to = reinterpret_cast<std::byte*>(state) + tile * bytes;
            fill_state_tile(model_, embedding, tile, state_tile(model_, to), floats->floats());
        };
    });
}

void Decoder::decode(const Asked& asked, const float* states, int64_t images,
                     const Answered& answered, int threads) const {
    run(asked, states, images, answered, {0.0f, nullptr}, threads);
}

void Decoder::search(const Asked& asked, const float* states, int64_t images, float* ious,
                     const Drawing& drawing, int threads) const {
    const Buffer vectors = float_buffer(asked.count * slots * vector_size);
    run(asked, states, images, {ious, vectors.floats(), nullptr}, drawing, threads);
}

void Decoder::run(const Asked& asked, const float* states, int64_t images, const Answered& answered,
                  const Drawing& drawing, int threads) const {
    check(asked, images);
    const int64_t tokens = outputs + asked.points_each;
    const int64_t memory = memory_size(asked.points_each, asked.masks != nullptr);
    const double nanoseconds = static_cast<double>(asked.count) * nanoseconds_per_prompt;
    // Fewer prompts than threads are answered one group after another, each by as many threads as
    // an image has parts for.
    const int64_t parts = Group::parts(model_);
    const int all = team_size(threads, asked.count * parts, nanoseconds);
    const bool few = asked.count < all;
    const int team = few ? 1 : all, each = few ? team_size(all, parts, nanoseconds) : 1;
    // Long prompts, and those whose image is their own, gain nothing from company.
    const int64_t most = asked.masks || tokens > 16 ? 1 : Group::most;
    const int64_t size = std::clamp<int64_t>((asked.count + team - 1) / team, 1, most);
    const auto groups = neighbours(asked.image_index, asked.count, size, team);
    share(team, static_cast<int64_t>(groups.size()), [&] {
        auto group = std::make_shared<Group>(model_, size, tokens, drawing.logits != nullptr, each);
        auto own =
            std::make_shared<Buffer>(asked.masks ? model_.tiles() * state_tile_bytes(model_) : 0);
        return [&, group, own](int64_t index) {
            const TileConfigGuard tile_config(model_.table);
            const auto [first, end] = groups[static_cast<size_t>(index)];
            const float* shared = states + asked.image_index[first] * state_size();
            const auto* state = reinterpret_cast<const std::byte*>(shared);
            for (int64_t prompt = first; answered.memory && prompt < end; ++prompt)
                PromptState(answered.memory + prompt * memory, tokens)
                    .begin(asked.masks != nullptr);
            if (asked.masks) {
                const PromptState kept(answered.memory + first * memory, tokens);
                shrink_mask(model_, asked.masks + first * 16 * model_.places(), kept.mask());
                add_mask(state, kept.mask(), own->bytes(), each);
                state = own->bytes();
            }
            const Answered part{answered.ious + first * slots,
                                answered.vectors + first * slots * vector_size,
                                answered.memory ? answered.memory + first * memory : nullptr};
            const int64_t planes = first * (slots - 1) * 16 * model_.places();
            const Drawing own_drawing{drawing.above,
                                      drawing.logits ? drawing.logits + planes : nullptr};
            group->run(state, asked.points + first * asked.points_each * 2,
                       asked.labels + first * asked.points_each, end - first, part, memory,
                       own_drawing);
        };
    });
}

// The state of an image to which a mask prompt is added.
void Decoder::add_mask(const std::byte* state, const float* mask, std::byte* to,
                       int threads) const {
    const int64_t bytes = state_tile_bytes(model_);
    share(threads, model_.tiles(), [&] {
        auto floats = std::make_shared<Buffer>(3 * width * tile_size * 4);
        return [&, floats](int64_t tile) {
            fill_masked_tile(model_, state_tile(model_, state + tile * bytes), mask, tile,
                             state_tile(model_, to + tile * bytes), floats->floats());
        };
    });
}

void Decoder::draw(const Drawn& drawn, const float* states, int64_t images, int threads) const {
    check_images(drawn.image_index, drawn.count, images);
    int64_t longest = outputs;
    for (int64_t prompt = 0; prompt < drawn.count; ++prompt)
        longest = std::max(longest, PromptState::check(drawn.memory + prompt * drawn.memory_size,
                                                       drawn.memory_size, model_.places()));
    const int team = team_size(threads, drawn.count * model_.tiles(),
                               static_cast<double>(drawn.count) * nanoseconds_per_prompt);
    const auto groups =
        neighbours(drawn.image_index, drawn.count,
                   std::clamp<int64_t>((drawn.count + team - 1) / team, 1, Pen::most), team);
    // Tiles do not depend on each other, so that few groups are shared out in parts.
    const int64_t few = 8 * team, count = static_cast<int64_t>(groups.size());
    const int64_t parts = count < few ? std::min<int64_t>(model_.tiles(), team) : 1;
    share(team, count * parts, [&] {
        auto pen = std::make_shared<Pen>(model_, longest);
        return [&, pen](int64_t item) {
            const TileConfigGuard tile_config(model_.table);
            const auto [first, end] = groups[static_cast<size_t>(item / parts)];
            const int64_t part = item % parts, area = 16 * model_.places();
            const float* state = states + drawn.image_index[first] * state_size();
            std::vector<Sketch> sketches;
            for (int64_t prompt = first; prompt < end; ++prompt) {
                sketches.push_back(
                    {ConstPromptState(drawn.memory + prompt * drawn.memory_size), {}});
                for (int64_t mask = 0; mask < drawn.masks; ++mask) {
                    const int64_t index = prompt * drawn.masks + mask;
                    if (mask % slots == 0) sketches.back().outlines.emplace_back();
                    sketches.back().outlines.back().add(drawn.vectors + index * vector_size,
                                                        drawn.logits + index * area);
                }
            }
            pen->draw(reinterpret_cast<const std::byte*>(state),
                      {model_.tiles() * part / parts, model_.tiles() * (part + 1) / parts},
                      sketches);
        };
    });
}

std::vector<std::string> table_names() {
    std::vector<std::string> names;
    for (const KernelTable* const* table = kernel_tables(); *table; ++table)
        names.emplace_back((*table)->name);
    return names;
}

}  // namespace fastseg::cpu::sam_decoder
