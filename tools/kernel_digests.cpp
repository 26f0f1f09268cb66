// Prints a digest of the result of every native kernel for generated inputs, one line a kernel.
//
// Kernels promise the same bits on every processor: two builds whose output differs break it. The
// one exception, measure_shapes (atan2, sin and cos of the C library), is marked as such.
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "device_kernels.h"
#include "kernels.h"

namespace {

using namespace fastseg;

// Knuth's MMIX generator: whole numbers only, so every machine draws the same.
class Draws {
  public:
    explicit Draws(uint64_t seed) : state_(seed) {}

    uint32_t next() {
        state_ = state_ * 6364136223846793005u + 1442695040888963407u;
        return static_cast<uint32_t>(state_ >> 32);
    }
    int64_t below(int64_t limit) { return static_cast<int64_t>(next() % limit); }
    float unit() { return static_cast<float>(next() >> 8) * 0x1p-24f; }

  private:
    uint64_t state_;
};

// FNV-1a, 64 bits.
class Digest {
  public:
    template <class T>
    Digest& add(const T* data, size_t count) {
        unsigned char byte[sizeof(T)];
        for (size_t i = 0; i < count; ++i) {
            std::memcpy(byte, data + i, sizeof(T));
            for (const unsigned char value : byte) hash_ = (hash_ ^ value) * 1099511628211u;
        }
        return *this;
    }
    template <class T>
    Digest& add(const std::vector<T>& values) {
        return add(values.data(), values.size());
    }
    void print(const char* name) const {
        std::printf("%-28s %016llx\n", name, static_cast<unsigned long long>(hash_));
    }

  private:
    uint64_t hash_ = 14695981039346656037u;
};

template <class T>
std::vector<T> drawn(size_t count, uint64_t seed, T (*value)(Draws&)) {
    Draws numbers(seed);
    std::vector<T> values(count);
    for (T& one : values) one = value(numbers);
    return values;
}

std::vector<uint8_t> bytes(size_t count, uint64_t seed) {
    return drawn<uint8_t>(count, seed, [](Draws& n) { return static_cast<uint8_t>(n.next()); });
}

std::vector<float> units(size_t count, uint64_t seed) {
    return drawn<float>(count, seed, [](Draws& n) { return n.unit(); });
}

// Waves with rough edges: masks with outlines, holes and islands.
std::vector<float> waves(int64_t count, int64_t side, uint64_t seed, float low, float high) {
    Draws numbers(seed);
    std::vector<float> values;
    for (int64_t plane = 0; plane < count; ++plane) {
        const int64_t period = 9 + numbers.below(40), shift = numbers.below(100);
        for (int64_t i = 0; i < side * side; ++i) {
            const int64_t x = (i % side + shift) % period, y = (i / side) % period;
            const float bump = static_cast<float>((period - x) * x * (period - y) * y);
            const float most = static_cast<float>(period * period * period * period) / 16.0f;
            const float share = 0.85f * bump / most + 0.15f * numbers.unit();
            values.push_back(low + (high - low) * share);
        }
    }
    return values;
}

template <class T>
Allocate<T> into(std::vector<T>& values) {
    return [&values](int64_t count) {
        values.resize(static_cast<size_t>(count));
        return values.data();
    };
}

const Frame whole{{480, 640}, 0, 0, 640, 480, 256, {192, 256}};
const Frame crop{{480, 640}, 100, 50, 300, 470, 256, {256, 122}};
const Normalisation normalisation{{123.675f, 116.28f, 103.53f}, {58.395f, 57.12f, 57.375f}};

void images() {
    const std::vector<uint8_t> pixels = bytes(480 * 640 * 3, 1);
    const Image image{pixels.data(), {480, 640}};
    Digest resized, prepared;
    for (const Size size : {Size{100, 300}, Size{700, 90}, Size{480, 1000}}) {
        std::vector<uint8_t> out(static_cast<size_t>(size.area() * 3));
        cpu::resize_bilinear(image, size, out.data(), 2);
        resized.add(out);
    }
    resized.print("resize_bilinear");
    for (const Frame& frame : {whole, crop}) {
        std::vector<float> out(3 * 256 * 256);
        cpu::preprocess(image, frame, normalisation, out.data(), 2);
        prepared.add(out);
    }
    prepared.print("preprocess");
}

void prompts() {
    Digest grids;
    for (const int64_t per_side : {1, 7, 32}) {
        std::vector<double> out(static_cast<size_t>(per_side * per_side * 2));
        cpu::point_grid(per_side, out.data());
        grids.add(out);
    }
    grids.print("point_grid");
}

struct Made {
    std::vector<uint32_t> counts;
    std::vector<int64_t> offsets;
    Size size{480, 640};

    Rle runs() const {
        return {counts.data(), offsets.data(), static_cast<int64_t>(offsets.size()) - 1, size};
    }
};

Made binarised(const Frame& frame, Digest& digest) {
    constexpr int64_t count = 12, side = 64;
    const std::vector<float> logits = waves(count, side, 3, -6.0f, 6.0f);
    Made made;
    made.offsets.resize(count + 1);
    std::vector<int64_t> areas(count), boxes(count * 4);
    std::vector<float> stability(count);
    cpu::binarise(
        {logits.data(), count, side, side, side * side}, frame, {-1.0f, 0.0f, 1.0f},
        {{into(made.counts), made.offsets.data()}, areas.data(), boxes.data(), stability.data()}, 2,
        {});
    digest.add(made.counts).add(made.offsets).add(areas).add(boxes).add(stability);
    return made;
}

void distances(const std::vector<uint8_t>& masks, int64_t count, Size size) {
    const Planes<const uint8_t> planes{masks.data(), count, size.height, size.width, size.area()};
    std::vector<double> out(masks.size());
    Digest digest;
    for (const DistanceSettings settings :
         {DistanceSettings{Metric::exact, 1, 1}, DistanceSettings{Metric::exact, 0.7, 1.3},
          DistanceSettings{Metric::chamfer, 1, 1}}) {
        cpu::distance_transform(planes, settings, out.data(), 2);
        digest.add(out);
    }
    digest.print("distance_transform");
    std::vector<int32_t> labels(masks.size());
    std::vector<int64_t> counts(static_cast<size_t>(count));
    cpu::label_components(planes, labels.data(), counts.data(), 2);
    Digest().add(labels).add(counts).print("label_components");
}

void run_lengths(const Made& made) {
    const Rle runs = made.runs();
    const size_t count = static_cast<size_t>(runs.masks);
    std::vector<int64_t> areas(count), boxes(count * 4);
    cpu::rle_areas(runs, areas.data());
    cpu::rle_boxes(runs, boxes.data());
    Digest().add(areas).add(boxes).print("rle_areas, rle_boxes");

    std::vector<double> iou(count * count);
    cpu::rle_iou(runs, runs, iou.data(), 2);
    Digest().add(iou).print("rle_iou");

    std::vector<uint8_t> array(count * static_cast<size_t>(runs.size.area()));
    cpu::rle_to_array(runs, array.data(), 2);
    Digest().add(array).print("rle_to_array");
    distances(array, runs.masks, runs.size);

    Made again;
    again.offsets.resize(count + 1);
    cpu::rle_from_array({array.data(), runs.masks, 480, 640, 480 * 640},
                        {into(again.counts), again.offsets.data()}, 2);
    Digest().add(again.counts).add(again.offsets).print("rle_from_array");

    std::vector<char> text;
    std::vector<int64_t> text_offsets(count + 1);
    cpu::rle_to_strings(runs, {into(text), text_offsets.data()});
    Digest().add(text).add(text_offsets).print("rle_to_strings");
    cpu::rle_from_strings({text.data(), text_offsets.data(), runs.masks}, runs.size,
                          {into(again.counts), again.offsets.data()});
    Digest().add(again.counts).add(again.offsets).print("rle_from_strings");

    std::vector<int32_t> points;
    std::vector<int64_t> rings, mask_offsets(count + 1);
    cpu::rle_polygons(runs, {into(points), into(rings), mask_offsets.data()}, 2);
    Digest().add(points).add(rings).add(mask_offsets).print("rle_polygons");

    Digest small;
    for (const Regions mode : {Regions::holes, Regions::islands}) {
        std::vector<uint8_t> changed(count);
        cpu::rle_remove_small_regions(
            runs, {60.0, mode}, {into(again.counts), again.offsets.data()}, changed.data(), 2);
        small.add(again.counts).add(again.offsets).add(changed);
    }
    small.print("rle_remove_small_regions");
}

void boxes() {
    constexpr int64_t count = 500;
    Draws numbers(4);
    std::vector<float> corners, scores = units(count, 5);
    std::vector<int64_t> whole_corners;
    for (int64_t i = 0; i < count; ++i) {
        const int64_t x = numbers.below(500), y = numbers.below(400);
        for (const int64_t edge : {x, y, x + numbers.below(140), y + numbers.below(80)}) {
            whole_corners.push_back(edge);
            corners.push_back(static_cast<float>(edge) * 1.3f);
        }
    }
    std::vector<int64_t> kept(count, -1);
    cpu::box_nms({corners.data(), count}, scores.data(), 0.4, kept.data());
    Digest().add(kept).print("box_nms");
    std::vector<uint8_t> near(count);
    cpu::near_crop_edge(whole_corners.data(), count, crop, 20.0, near.data());
    Digest().add(near).print("near_crop_edge");
}

void hearts() {
    const std::vector<uint8_t> frame = bytes(300 * 400 * 3, 6);
    std::vector<float> input(3 * 128 * 128);
    Digest inputs;
    for (const Window window : {Window{-20, 10, 330, 360}, Window{50, 50, 120, 120}}) {
        cpu::frame_input(Pixels<uint8_t>{frame.data(), {300, 400}, 3}, window, 128, input.data(),
                         2);
        inputs.add(input);
    }
    inputs.print("frame_input");

    constexpr int64_t planes = 8, side = 128;
    const std::vector<float> probabilities = waves(planes, side, 7, -0.1f, 1.0f);
    const Planes<const float> given{probabilities.data(), planes, side, side, side * side};
    std::vector<uint8_t> masks(planes * side * side);
    cpu::clean_chambers(given, {4, 0.5f, true}, masks.data(), 2);
    Digest().add(masks).print("clean_chambers");
    std::vector<float> scores(planes), stability(planes);
    cpu::chamber_scores(given, masks.data(), {scores.data(), stability.data()}, 2);
    Digest().add(scores).add(stability).print("chamber_scores");

    const Planes<const uint8_t> cleaned{masks.data(), planes, side, side, side * side};
    Made made;
    made.offsets.resize(planes + 1);
    cpu::masks_to_frame(cleaned, {-20, 10, 330, 360}, {300, 400},
                        {into(made.counts), made.offsets.data()}, 2);
    Digest().add(made.counts).add(made.offsets).print("masks_to_frame");

    for (const auto& [name, rule] : {std::pair{"measure_shapes exact", AxisRule::exact},
                                     std::pair{"measure_shapes upright", AxisRule::upright},
                                     std::pair{"measure_shapes source", AxisRule::as_published}}) {
        std::vector<ShapeMeasures> measures(planes);
        std::vector<double> chords(planes * 21 * 4), diameters(planes * 21);
        cpu::measure_shapes(cleaned, {21, rule}, {measures.data(), chords.data(), diameters.data()},
                            2);
        Digest().add(measures).add(chords).add(diameters).print((std::string(name) + " *").c_str());
    }
}

template <class T>
std::vector<T> scratch(int64_t bytes) {
    return std::vector<T>(static_cast<size_t>(bytes) / sizeof(T) + 1);
}

struct alignas(16) Word {
    uint64_t parts[2];
};

// The bodies of the CUDA kernels, in plain loops.
void emulated(const DeviceKernels& kernels) {
    const std::vector<uint8_t> image = bytes(480 * 640 * 3, 1);
    std::vector<uint16_t> square(3 * 256 * 256);
    std::vector<Word> room = scratch<Word>(kernels.preprocess_workspace(crop));
    kernels.preprocess({image.data(), {480, 640}}, crop, normalisation, {square.data(), true},
                       room.data(), nullptr);
    Digest().add(square).print("device preprocess, fp16");

    constexpr int64_t planes = 12, side = 64, runs = 200000;
    const std::vector<float> logits = waves(planes, side, 3, -6.0f, 6.0f);
    std::vector<PlaneLabel> labels(planes);
    for (int32_t i = 0; i < planes; ++i) labels[i] = {static_cast<float>(i % 5), i};
    std::vector<MaskRecord> records(planes), kept_records(planes);
    std::vector<uint32_t> positions(runs), counts(runs);
    Fill fill{0, 0}, kept_fill{0, 0};
    const Candidates candidates{records.data(), positions.data(), &fill, planes, runs};
    room = scratch<Word>(kernels.binarise_workspace(planes, {side, side}, whole));
    kernels.binarise({logits.data(), false, planes, side, side}, labels.data(), whole,
                     {-1.0f, 0.0f, 1.0f}, {0.1f, -1.0}, candidates, room.data(), nullptr);
    Digest().add(&fill, 1).add(positions.data(), fill.runs).print("device binarise");

    std::vector<int32_t> kept(planes);
    int32_t kept_count = 0;
    room = scratch<Word>(kernels.box_nms_workspace(planes));
    kernels.box_nms(candidates, 0.5, kept.data(), &kept_count, room.data(), nullptr);
    kernels.join_runs(candidates, kept.data(), &kept_count,
                      {kept_records.data(), counts.data(), &kept_fill}, nullptr);
    Digest()
        .add(kept.data(), kept_count)
        .add(kept_records.data(), kept_fill.masks)
        .add(counts.data(), kept_fill.runs)
        .print("device box_nms, join_runs");
}

}  // namespace

int main() {
    images();
    prompts();
    Digest masks;
    binarised(crop, masks);
    const Made made = binarised(whole, masks);
    masks.print("binarise");
    run_lengths(made);
    boxes();
    hearts();
    emulated(emulated_kernels());
}
