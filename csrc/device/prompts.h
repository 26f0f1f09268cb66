// Point prompts on the device: their coordinates, the selection of those with a mask worth drawing,
// and the rows that belong to them.
#pragma once

#include <stdexcept>
#include <type_traits>

#include "common/point_grid.h"
#include "device/block.h"
#include "device_kernels.h"

namespace fastseg::device {

constexpr int slots = 4, first_slot = 1, alternatives = 3;  // of SAM's decoder

struct PointGrid {
    static constexpr int threads = 128;
    using Shared = Nothing;
    int64_t per_side;
    double* out;

    FASTSEG_HOST_DEVICE void operator()(Block<threads> block, Shared&) const {
        block.each(per_side * per_side, [&](int64_t i) {
            out[2 * i] = grid_centre(i % per_side, per_side);
            out[2 * i + 1] = grid_centre(i / per_side, per_side);
        });
    }
};

template <class Launcher>
void point_grid(Launcher launcher, int64_t per_side, double* out) {
    if (per_side < 1) throw std::invalid_argument("points per side must be at least 1");
    launcher.launch(PointGrid{per_side, out},
                    {blocks_for(per_side * per_side, PointGrid::threads)});
}

struct PointPrompts {
    static constexpr int threads = 128;
    using Shared = Nothing;
    const double* points;
    int64_t count;
    Frame frame;
    float* coords;
    int32_t* labels;

    FASTSEG_HOST_DEVICE void operator()(Block<threads> block, Shared&) const {
        constexpr int32_t foreground = 1, padding = -1;
        block.each(count, [&](int64_t i) {
            const int64_t origin[2] = {frame.x0, frame.y0};
            const int64_t size[2] = {frame.x1 - frame.x0, frame.y1 - frame.y0};
            const int64_t resized[2] = {frame.resized.width, frame.resized.height};
            for (int axis = 0; axis < 2; ++axis) {
                const auto mapped = [&](double position) {
                    return image_to_model(position, size[axis], origin[axis], resized[axis]);
                };
                const double point = grid_to_image(points[2 * i + axis], size[axis], origin[axis]);
                coords[4 * i + axis] = mapped(point);
                coords[4 * i + 2 + axis] = mapped(0.0);
            }
            labels[2 * i] = foreground;
            labels[2 * i + 1] = padding;
        });
    }
};

template <class Launcher>
void point_prompts(Launcher launcher, const double* points, int64_t count, Frame frame,
                   float* coords, int32_t* labels) {
    launcher.launch(PointPrompts{points, count, frame, coords, labels},
                    {blocks_for(count, PointPrompts::threads)});
}

// One block goes through all prompts, a tile at a time, so that their order stays.
struct SelectPrompts {
    static constexpr int threads = 256;
    struct Shared {
        PrefixSums<int32_t, threads> sums;
    };
    const float* scores;
    int64_t count;
    float threshold;
    int32_t* prompts;
    int32_t* prompt_count;

    FASTSEG_HOST_DEVICE bool passes(int64_t prompt) const {
        if (prompt >= count) return false;
        bool any = false;
        for (int slot = first_slot; slot < slots; ++slot) {
            any |= scores[prompt * slots + slot] > threshold;
        }
        return any;
    }

    FASTSEG_HOST_DEVICE void operator()(Block<threads> block, Shared& shared) const {
        int32_t found = 0;
        for (int64_t tile = 0; tile < count; tile += threads) {
            shared.sums.compute(block, [&](int t) { return passes(tile + t) ? 1 : 0; });
            block.step([&](int t) {
                if (passes(tile + t)) {
                    prompts[found + shared.sums.before(t)] = static_cast<int32_t>(tile + t);
                }
            });
            found += shared.sums.total;
            block.step([](int) {});  // before the next tile overwrites the sums
        }
        block.step([&](int t) {
            if (t == 0) *prompt_count = found;
        });
    }
};

template <class Launcher>
void select_prompts(Launcher launcher, const float* scores, int64_t count, float threshold,
                    int32_t* prompts, int32_t* prompt_count) {
    launcher.launch(SelectPrompts{scores, count, threshold, prompts, prompt_count}, {1});
}

// Image tokens are megabytes a row, so rows are cut into pieces of a block each.
template <class Word>
struct GatherRows {
    static constexpr int threads = 256, words_a_thread = 8;
    static constexpr int64_t words_a_block = int64_t{threads} * words_a_thread;
    using Shared = Nothing;
    RowGather gather;
    Word* out;

    FASTSEG_HOST_DEVICE void operator()(Block<threads> block, Shared&) const {
        const int64_t row = gather.first + block.y;
        if (row >= *gather.row_count) return;
        const int64_t words = gather.row_bytes / int64_t{sizeof(Word)};
        const Word* source = reinterpret_cast<const Word*>(static_cast<const char*>(gather.source) +
                                                           gather.rows[row] * gather.source_stride);
        Word* into = out + block.y * words;
        block.step([&](int t) {
            for (int i = 0; i < words_a_thread; ++i) {
                const int64_t word = block.x * words_a_block + i * threads + t;
                if (word < words) into[word] = source[word];
            }
        });
    }
};

struct alignas(16) FourWords {
    uint32_t words[4];
};

template <class Launcher>
void gather_rows(Launcher launcher, RowGather gather, void* out) {
    const uint64_t alignment = reinterpret_cast<uint64_t>(gather.source) |
                               reinterpret_cast<uint64_t>(out) |
                               static_cast<uint64_t>(gather.source_stride | gather.row_bytes);
    if (alignment % sizeof(uint32_t) != 0) {
        throw std::invalid_argument("rows to gather begin and end at multiples of 4 bytes");
    }
    const auto launch = [&](auto* words) {
        using Word = std::remove_pointer_t<decltype(words)>;
        const int64_t count = gather.row_bytes / int64_t{sizeof(Word)};
        launcher.launch(GatherRows<Word>{gather, words},
                        {blocks_for(count, GatherRows<Word>::words_a_block), gather.size});
    };
    if (alignment % sizeof(FourWords) == 0) {
        launch(static_cast<FourWords*>(out));
    } else {
        launch(static_cast<uint32_t*>(out));
    }
}

struct LabelPlanes {
    static constexpr int threads = 128;
    using Shared = Nothing;
    const float* scores;
    RowGather rows;
    float threshold;
    int64_t first_prompt;
    PlaneLabel* labels;

    FASTSEG_HOST_DEVICE void operator()(Block<threads> block, Shared&) const {
        block.each(rows.size * alternatives, [&](int64_t plane) {
            const int64_t row = rows.first + plane / alternatives;
            PlaneLabel label{0.0f, -1};
            if (row < *rows.row_count) {
                const int64_t prompt = rows.rows[row];
                label.score = scores[prompt * slots + first_slot + plane % alternatives];
                if (label.score > threshold) {
                    label.prompt = static_cast<int32_t>(first_prompt + prompt);
                }
            }
            labels[plane] = label;
        });
    }
};

template <class Launcher>
void label_planes(Launcher launcher, const float* scores, RowGather rows, float threshold,
                  int64_t first_prompt, PlaneLabel* labels) {
    launcher.launch(LabelPlanes{scores, rows, threshold, first_prompt, labels},
                    {blocks_for(rows.size * alternatives, LabelPlanes::threads)});
}

}  // namespace fastseg::device
