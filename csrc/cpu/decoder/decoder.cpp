#include "cpu/decoder/decoder.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "cpu/decoder/mask_head.h"
#include "cpu/decoder/memory.h"
#include "cpu/decoder/sweep.h"
#include "cpu/decoder/tokens.h"
#include "cpu/threads.h"

namespace fastseg::cpu::decoder {
namespace {

constexpr int64_t largest_group =
    4;  // prompts that read a tile of the image while it is in the cache
constexpr double nanoseconds_per_prompt = 2e6;

const Table& choose(const std::string& name) {
    if (const Table* table = find_table(name.c_str())) return *table;
    throw std::invalid_argument("this processor has no table " + name);
}

// Registers of the table, held while a thread works.
class Working {
  public:
    explicit Working(const Table& table) : table_(table) { table_.begin(); }
    ~Working() { table_.end(); }
    Working(const Working&) = delete;
    Working& operator=(const Working&) = delete;

  private:
    const Table& table_;
};

void check_images(const int32_t* index, int64_t count, int64_t images) {
    for (int64_t prompt = 0; prompt < count; ++prompt)
        if (index[prompt] < 0 || index[prompt] >= images)
            throw std::invalid_argument("image_index must be in 0.." + std::to_string(images - 1) +
                                        ", not " + std::to_string(index[prompt]));
}

// Prompts on one image, decoded together by one thread.
class Group {
  public:
    Group(const Model& model, int64_t tokens)
        : model_(model),
          sweep_(model, tokens),
          scratch_(float_buffer(2 * width * model.padded(heads * tokens))) {
        for (Prompt& prompt : prompts_) {
            prompt.shared = Looking(model, tokens, false);
            prompt.raw = Looking(model, tokens, true);
            prompt.sent[0] = Sent(model, tokens, false);
            prompt.sent[1] = Sent(model, tokens, true);
        }
        seen_ = float_buffer(largest_group * tokens * inner);
    }

    // `state` is of the image that these prompts are on.
    void run(std::byte* state, const float* points, const int32_t* labels, int64_t count,
             int64_t tokens, const Answered& out, int64_t memory_size) {
        Tokens rows(model_, count, tokens);
        rows.embed(points, labels);

        rows.attend(model_.layers[0], true);
        start(rows, model_.layers[0].look, &Prompt::shared);
        for_tiles(state, count, [&](const Place& at, Prompt& prompt) {
            sweep_.look_shared(at.image, at.valid, prompt.shared, tokens);
        });
        finish(rows, model_.layers[0].look, &Prompt::shared);
        rows.take_in(model_.layers[0], seen_.floats());
        send(rows, 0, out.memory, memory_size);

        rows.attend(model_.layers[1], false);
        start(rows, model_.layers[1].look, &Prompt::raw);
        for_tiles(state, count, [&](const Place& at, Prompt& prompt) {
            sweep_.update_first(at.image, prompt.sent[0], tokens, at.slot, true);
            look(model_.layers[1].look, at, prompt, tokens);
        });
        finish(rows, model_.layers[1].look, &Prompt::raw);
        rows.take_in(model_.layers[1], seen_.floats());
        send(rows, 1, out.memory, memory_size);

        rows.keep_outputs();
        start(rows, model_.last, &Prompt::raw);
        for_tiles(state, count, [&](const Place& at, Prompt& prompt) {
            sweep_.update_first(at.image, prompt.sent[0], tokens, at.slot, false);
            sweep_.update_second(at.tile, prompt.sent[1], tokens, at.slot, true);
            look(model_.last, at, prompt, outputs);
        });
        finish(rows, model_.last, &Prompt::raw);
        rows.take_in_last(seen_.floats());
        rows.read(out.ious, out.vectors);
    }

  private:
    struct Prompt {
        Looking shared, raw;
        Sent sent[2];
    };

    struct Place {
        StateTile image;
        int64_t tile, slot, valid;
        bool ends_span;
    };

    void look(const Look& look, const Place& at, Prompt& prompt, int64_t tokens) {
        sweep_.look_raw(look, at.tile, at.valid, prompt.raw, tokens, at.slot);
        if (at.ends_span) sweep_.gather(prompt.raw, tokens);
    }

    // Visit every tile for every prompt, a span of tiles at a time.
    template <class Visit>
    void for_tiles(std::byte* state, int64_t count, const Visit& visit) {
        const int64_t span = model_.table.span;
        for (int64_t first = 0; first < model_.tiles(); first += span) {
            for (int64_t index = 0; index < count; ++index) {
                const int64_t end = std::min(first + span, model_.tiles());
                for (int64_t tile = first; tile < end; ++tile) {
                    const int64_t valid = std::min(tile_size, model_.places() - tile * tile_size);
                    visit(Place{state_tile(model_, state + tile * state_tile_bytes(model_)), tile,
                                tile - first, valid, tile + 1 == end},
                          prompts_[index]);
                }
            }
        }
    }

    void start(Tokens& rows, const Look& look, Looking Prompt::* looking) {
        const float* queries = rows.project_placed(look.query);
        for (int64_t index = 0; index < rows.prompts(); ++index)
            (prompts_[index].*looking)
                .start(model_, look, queries + index * rows.tokens() * inner, rows.tokens(),
                       scratch_.floats());
    }

    void finish(const Tokens& rows, const Look& look, Looking Prompt::* looking) {
        for (int64_t index = 0; index < rows.prompts(); ++index)
            (prompts_[index].*looking)
                .finish(model_, look, rows.tokens(), seen_.floats() + index * rows.tokens() * inner,
                        scratch_.floats());
    }

    void send(Tokens& rows, int layer, float* memory, int64_t memory_size) {
        const Update& update = model_.layers[layer].update;
        const int64_t size = rows.tokens() * inner;
        const float* keys = rows.project_placed(update.key);
        const float* values = rows.project(update.value);
        for (int64_t index = 0; index < rows.prompts(); ++index) {
            prompts_[index].sent[layer].fill(model_, update, keys + index * size,
                                             values + index * size, rows.tokens(),
                                             scratch_.floats());
            const Memory kept(memory + index * memory_size, rows.tokens());
            std::memcpy(kept.keys(layer), keys + index * size,
                        static_cast<size_t>(size) * sizeof(float));
            std::memcpy(kept.values(layer), values + index * size,
                        static_cast<size_t>(size) * sizeof(float));
        }
    }

    const Model& model_;
    Sweep sweep_;
    Buffer scratch_, seen_;
    Prompt prompts_[largest_group];
};

}  // namespace

Decoder::Decoder(const Weights& weights, int64_t grid, int64_t side, const std::string& table)
    : model_(weights, grid, side, choose(table)) {}

int64_t Decoder::state_size() const {
    return model_.tiles() * state_tile_bytes(model_) / 4;
}

int64_t Decoder::memory_size(int64_t points, bool with_mask) const {
    return Memory::size(outputs + points, with_mask ? model_.places() : 0);
}

void Decoder::image_state(const float* embedding, float* state, int threads) const {
    const int64_t bytes = state_tile_bytes(model_), tile_floats = tile_size * width;
    share(team_size(threads, model_.tiles(), 1e7), model_.tiles(), [&] {
        auto floats = std::make_shared<Buffer>(2 * tile_floats * 4);
        return [&, floats](int64_t tile) {
            auto* to = reinterpret_cast<std::byte*>(state) + tile * bytes;
            fill_state_tile(model_, embedding, tile, state_tile(model_, to), floats->floats());
        };
    });
}

void Decoder::decode(const Asked& asked, const float* states, int64_t images,
                     const Answered& answered, int threads) const {
    check_images(asked.image_index, asked.count, images);
    for (int64_t i = 0; i < asked.count * asked.points_each; ++i)
        if (asked.labels[i] < -1 || asked.labels[i] > 3)
            throw std::invalid_argument("point_labels must be in -1..3, not " +
                                        std::to_string(asked.labels[i]));
    const int64_t tokens = outputs + asked.points_each, bytes = state_tile_bytes(model_);
    const int64_t memory = memory_size(asked.points_each, asked.masks != nullptr);
    const int team =
        team_size(threads, asked.count, static_cast<double>(asked.count) * nanoseconds_per_prompt);
    // Long prompts, and those whose image is their own, gain nothing from company.
    const int64_t most = asked.masks || tokens > 16 ? 1 : largest_group;
    const int64_t size = std::clamp<int64_t>((asked.count + team - 1) / team, 1, most);
    std::vector<std::pair<int64_t, int64_t>> groups;  // first and end
    for (int64_t first = 0, end = 0; first < asked.count; first = end) {
        while (end < asked.count && end - first < size &&
               asked.image_index[end] == asked.image_index[first])
            ++end;
        groups.emplace_back(first, end);
    }
    share(team, static_cast<int64_t>(groups.size()), [&] {
        auto group = std::make_shared<Group>(model_, tokens);
        auto own = std::make_shared<Buffer>(asked.masks ? model_.tiles() * bytes : 0);
        auto floats = std::make_shared<Buffer>(asked.masks ? 8 * width * tile_size : 0);
        return [&, group, own, floats](int64_t index) {
            const Working working(model_.table);
            const auto [first, end] = groups[static_cast<size_t>(index)];
            const float* shared = states + asked.image_index[first] * state_size();
            auto* state = reinterpret_cast<std::byte*>(const_cast<float*>(shared));
            for (int64_t prompt = first; prompt < end; ++prompt)
                Memory(answered.memory + prompt * memory, tokens).begin(asked.masks != nullptr);
            if (asked.masks) {
                const Memory kept(answered.memory + first * memory, tokens);
                shrink_mask(model_, asked.masks + first * 16 * model_.places(), kept.mask());
                for (int64_t tile = 0; tile < model_.tiles(); ++tile)
                    fill_masked_tile(model_, state_tile(model_, state + tile * bytes), kept.mask(),
                                     tile, state_tile(model_, own->bytes() + tile * bytes),
                                     floats->floats());
                state = own->bytes();
            }
            const Answered part{answered.ious + first * slots,
                                answered.vectors + first * slots * vector_size,
                                answered.memory + first * memory};
            group->run(state, asked.points + first * asked.points_each * 2,
                       asked.labels + first * asked.points_each, end - first, tokens, part, memory);
        };
    });
}

void Decoder::draw(const Drawn& drawn, const float* states, int64_t images, int threads) const {
    check_images(drawn.image_index, drawn.count, images);
    int64_t longest = outputs;
    for (int64_t prompt = 0; prompt < drawn.count; ++prompt)
        longest = std::max(longest, Memory::check(drawn.memory + prompt * drawn.memory_size,
                                                  drawn.memory_size, model_.places()));
    // Tiles do not depend on each other, so that few prompts are shared out in parts.
    const int team = team_size(threads, drawn.count * model_.tiles(),
                               static_cast<double>(drawn.count) * nanoseconds_per_prompt);
    const int64_t parts = std::min(model_.tiles(), drawn.count < 4 * team ? int64_t{team} : 1);
    share(team, drawn.count * parts, [&] {
        auto pen = std::make_shared<Pen>(model_, longest);
        return [&, pen](int64_t item) {
            const Working working(model_.table);
            const int64_t prompt = item / parts, part = item % parts;
            const float* state = states + drawn.image_index[prompt] * state_size();
            const int64_t masks = drawn.masks * 16 * model_.places();
            pen->take(Memory(const_cast<float*>(drawn.memory) + prompt * drawn.memory_size));
            pen->draw(reinterpret_cast<std::byte*>(const_cast<float*>(state)),
                      {model_.tiles() * part / parts, model_.tiles() * (part + 1) / parts},
                      drawn.vectors + prompt * drawn.masks * vector_size, drawn.masks,
                      drawn.logits + prompt * masks);
        };
    });
}

std::vector<std::string> table_names() {
    std::vector<std::string> names;
    for (const Table* const* table = tables(); *table; ++table) names.emplace_back((*table)->name);
    return names;
}

}  // namespace fastseg::cpu::decoder
