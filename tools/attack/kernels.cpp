// Calls every native kernel with odd shapes, numbers and run lengths, for builds with sanitizers.
//
//   kernel_attack MODE SEED FIRST COUNT [WEIGHTS]
//
// MODE is "kernels", "runs" or "decoder" (which reads WEIGHTS, see kernels.py), or "threads", where
// several threads try the same cases at once and must agree. A case may end well or by
// std::invalid_argument; everything else ends the program, which names the case before.
#include "kernels.h"

#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <fstream>
#include <limits>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "cpu/sam_decoder/decoder.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
extern "C" void __sanitizer_set_death_callback(void (*callback)());
#endif

namespace {

using namespace fastseg;

thread_local int64_t current_case = -1;

void name_case() {
    std::fprintf(stderr, "in case %lld\n", static_cast<long long>(current_case));
}

// Knuth's MMIX generator.
class Draws {
  public:
    explicit Draws(uint64_t seed) : state_(seed * 2654435761u + 1) {
        for (int i = 0; i < 4; ++i) next();
    }

    uint32_t next() {
        state_ = state_ * 6364136223846793005u + 1442695040888963407u;
        return static_cast<uint32_t>(state_ >> 32);
    }
    int64_t below(int64_t limit) { return static_cast<int64_t>(next() % limit); }
    int64_t between(int64_t low, int64_t high) { return low + below(high - low + 1); }
    bool one_in(int64_t count) { return below(count) == 0; }
    float unit() { return static_cast<float>(next() >> 8) * 0x1p-24f; }

    // Mostly small, now and then what no caller should give.
    float odd() {
        constexpr float infinite = std::numeric_limits<float>::infinity();
        constexpr float edges[] = {0.0f,   -0.0f,     1e-45f,   1e38f,
                                   -1e38f, -infinite, infinite, std::nanf("")};
        return one_in(20) ? edges[below(8)] : (unit() - 0.5f) * 12.0f;
    }
    int64_t length(int64_t most) { return one_in(6) ? between(1, 3) : between(1, most); }

  private:
    uint64_t state_;
};

// FNV-1a over what a case has made.
class Digest {
  public:
    template <class T>
    void add(const std::vector<T>& values) {
        const auto* bytes = reinterpret_cast<const unsigned char*>(values.data());
        for (size_t i = 0; i < values.size() * sizeof(T); ++i)
            hash_ = (hash_ ^ bytes[i]) * 1099511628211u;
    }
    uint64_t value() const { return hash_; }

  private:
    uint64_t hash_ = 14695981039346656037u;
};

template <class T>
std::vector<T> sized(int64_t count) {
    return std::vector<T>(static_cast<size_t>(count));
}

std::vector<float> floats(int64_t count, Draws& draws) {
    std::vector<float> values = sized<float>(count);
    for (float& value : values) value = draws.odd();
    return values;
}

std::vector<uint8_t> bytes(int64_t count, Draws& draws, uint32_t modulus = 256) {
    std::vector<uint8_t> values = sized<uint8_t>(count);
    for (uint8_t& value : values) value = static_cast<uint8_t>(draws.next() % modulus);
    return values;
}

template <class T>
Allocate<T> into(std::vector<T>& values) {
    return [&values](int64_t count) {
        values.resize(static_cast<size_t>(count));
        return values.data();
    };
}

struct Made {
    std::vector<uint32_t> counts;
    std::vector<int64_t> offsets;
    Size size;

    explicit Made(int64_t masks, Size size) : offsets(sized<int64_t>(masks + 1)), size(size) {}
    Rle runs() const {
        return {counts.data(), offsets.data(), static_cast<int64_t>(offsets.size()) - 1, size};
    }
    RleOut out() { return {into(counts), offsets.data()}; }
    void add_to(Digest& digest) const {
        digest.add(counts);
        digest.add(offsets);
    }
};

Frame draw_frame(Draws& draws) {
    const Size image{draws.length(90), draws.length(90)};
    const int64_t x0 = draws.below(image.width), y0 = draws.below(image.height);
    const int64_t x1 = draws.between(x0 + 1, image.width), y1 = draws.between(y0 + 1, image.height);
    const int64_t side = draws.length(100), longest = std::max(x1 - x0, y1 - y0);
    const auto scaled = [&](int64_t length) {
        return std::max<int64_t>(1, (length * side + longest / 2) / longest);
    };
    return {image, x0, y0, x1, y1, side, {scaled(y1 - y0), scaled(x1 - x0)}};
}

int draw_threads(Draws& draws) {
    return static_cast<int>(draws.between(1, 4));
}

// Every operation on run lengths that may come from outside.
void use_runs(const Rle& runs, Draws& draws, Digest& digest) {
    cpu::rle_check(runs);
    std::vector<int64_t> areas = sized<int64_t>(runs.masks), boxes = sized<int64_t>(runs.masks * 4);
    cpu::rle_areas(runs, areas.data());
    cpu::rle_boxes(runs, boxes.data());
    digest.add(areas);
    digest.add(boxes);
    std::vector<double> iou = sized<double>(runs.masks * runs.masks);
    cpu::rle_iou(runs, runs, iou.data(), draw_threads(draws));
    digest.add(iou);
    std::vector<uint8_t> array = sized<uint8_t>(runs.masks * runs.size.area());
    cpu::rle_to_array(runs, array.data(), draw_threads(draws));
    Made again(runs.masks, runs.size);
    cpu::rle_from_array({array.data(), runs.masks, runs.size.height, runs.size.width,
                         runs.size.height * runs.size.width},
                        again.out(), draw_threads(draws));
    again.add_to(digest);
    std::vector<char> text;
    std::vector<int64_t> text_offsets = sized<int64_t>(runs.masks + 1);
    cpu::rle_to_strings(runs, {into(text), text_offsets.data()});
    digest.add(text);
    std::vector<int32_t> points;
    std::vector<int64_t> rings, mask_offsets = sized<int64_t>(runs.masks + 1);
    cpu::rle_polygons(runs, {into(points), into(rings), mask_offsets.data()}, draw_threads(draws));
    digest.add(points);
    for (const Regions mode : {Regions::holes, Regions::islands}) {
        std::vector<uint8_t> changed = sized<uint8_t>(runs.masks);
        cpu::rle_remove_small_regions(runs, {draws.unit() * 40.0, mode}, again.out(),
                                      changed.data(), draw_threads(draws));
        again.add_to(digest);
    }
}

// Counts that mostly fill the masks.
Made draw_counts(Draws& draws) {
    const Size size{draws.length(60), draws.length(60)};
    const int64_t masks = draws.between(0, 4);
    constexpr uint32_t edges[] = {0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF};
    Made made(masks, size);
    const bool sound = !draws.one_in(4);
    for (int64_t mask = 0; mask < masks; ++mask) {
        for (int64_t left = size.area(); left > 0;) {
            const int64_t run = std::min(left, draws.below(size.area() / 3 + 2));
            made.counts.push_back(static_cast<uint32_t>(run));
            left -= run;
        }
        if (!sound && draws.one_in(3)) made.counts.push_back(edges[draws.below(5)]);
        if (!sound && draws.one_in(4)) made.counts.pop_back();
        made.offsets[static_cast<size_t>(mask) + 1] = static_cast<int64_t>(made.counts.size());
    }
    return made;
}

void attack_counts(Draws& draws, Digest& digest) {
    const Made made = draw_counts(draws);
    use_runs(made.runs(), draws, digest);
}

// Strings of masks with a few bytes of others, at times with none of their own.
void attack_strings(Draws& draws, Digest& digest) {
    const Made given = draw_counts(draws);
    const int64_t masks = given.runs().masks;
    std::vector<char> text;
    std::vector<int64_t> offsets = sized<int64_t>(masks + 1);
    cpu::rle_to_strings(given.runs(), {into(text), offsets.data()});
    const int64_t length = static_cast<int64_t>(text.size());
    for (int64_t changed = draws.below(4); length && changed > 0; --changed)
        text[static_cast<size_t>(draws.below(length))] =
            static_cast<char>(draws.one_in(3) ? draws.next() : draws.between(48, 48 + 63));
    if (draws.one_in(8))
        for (char& sign : text) sign = static_cast<char>(draws.next());
    Made made(masks, given.size);
    cpu::rle_from_strings({text.data(), offsets.data(), masks}, made.size, made.out());
    use_runs(made.runs(), draws, digest);
}

void attack_images(Draws& draws, Digest& digest) {
    const Frame frame = draw_frame(draws);
    const std::vector<uint8_t> pixels = bytes(frame.image.area() * 3, draws);
    const Size size{draws.length(120), draws.length(120)};
    std::vector<uint8_t> resized = sized<uint8_t>(size.area() * 3);
    cpu::resize_bilinear({pixels.data(), frame.image}, size, resized.data(), draw_threads(draws));
    digest.add(resized);
    std::vector<float> prepared = sized<float>(3 * frame.side * frame.side);
    cpu::preprocess({pixels.data(), frame.image}, frame,
                    {{draws.odd(), 1, 2}, {1, draws.unit() + 0.1f, 3}}, prepared.data(),
                    draw_threads(draws));
    digest.add(prepared);
    const int64_t per_side = draws.between(0, 20);
    std::vector<double> grid = sized<double>(per_side * per_side * 2);
    cpu::point_grid(per_side, grid.data());
    digest.add(grid);
}

void attack_binarise(Draws& draws, Digest& digest) {
    const Frame frame = draw_frame(draws);
    const int64_t count = draws.between(0, 5), low = draws.length(40);
    const std::vector<float> logits = floats(count * low * low, draws);
    Made made(count, frame.size());
    std::vector<int64_t> areas = sized<int64_t>(count), boxes = sized<int64_t>(count * 4);
    std::vector<float> stability = sized<float>(count);
    const char* kernels[] = {"", "", "portable", "avx2", "sse2"};
    cpu::binarise({logits.data(), count, low, low, low * low}, frame,
                  {draws.odd(), draws.odd(), draws.odd()},
                  {made.out(), areas.data(), boxes.data(), stability.data()}, draw_threads(draws),
                  kernels[draws.below(5)]);
    made.add_to(digest);
    digest.add(areas);
    digest.add(boxes);
    Made whole(count, made.size);
    whole.counts = made.counts;
    whole.offsets = made.offsets;
    use_runs(whole.runs(), draws, digest);
}

void attack_boxes(Draws& draws, Digest& digest) {
    const int64_t count = draws.between(0, 60);
    const std::vector<float> corners = floats(count * 4, draws), scores = floats(count, draws);
    std::vector<int64_t> kept = sized<int64_t>(count), whole = sized<int64_t>(count * 4);
    for (int64_t& corner : whole) corner = draws.between(-5, 95);
    cpu::box_nms({corners.data(), count}, scores.data(), draws.unit(), kept.data());
    digest.add(kept);
    std::vector<uint8_t> near = sized<uint8_t>(count);
    cpu::near_crop_edge(whole.data(), count, draw_frame(draws), draws.odd(), near.data());
    digest.add(near);
}

void attack_frames(Draws& draws, Digest& digest) {
    const Size size{draws.length(80), draws.length(80)};
    const int64_t channels = draws.one_in(2) ? 3 : 1, side = draws.length(70);
    const int64_t x0 = draws.between(-30, 60), y0 = draws.between(-30, 60);
    const int64_t span = draws.length(90);
    const Window window{x0, y0, x0 + span, y0 + span};
    std::vector<float> input = sized<float>(channels * side * side);
    if (draws.one_in(2)) {
        const std::vector<uint8_t> frame = bytes(size.area() * channels, draws);
        cpu::frame_input(Pixels<uint8_t>{frame.data(), size, channels}, window, side, input.data(),
                         draw_threads(draws));
    } else {
        std::vector<float> frame = floats(size.area() * channels, draws);
        if (!draws.one_in(4))
            for (float& value : frame) value = draws.unit();
        cpu::frame_input(Pixels<float>{frame.data(), size, channels}, window, side, input.data(),
                         draw_threads(draws));
    }
    digest.add(input);
    const int64_t planes = draws.between(0, 4);
    const std::vector<uint8_t> masks = bytes(planes * side * side, draws, 2);
    Made made(planes, size);
    cpu::masks_to_frame({masks.data(), planes, side, side, side * side}, window, size, made.out(),
                        draw_threads(draws));
    made.add_to(digest);
}

void attack_distances(Draws& draws, Digest& digest) {
    const int64_t planes = draws.between(0, 3);
    const Size size{draws.length(50), draws.length(50)};
    const std::vector<uint8_t> masks = bytes(planes * size.area(), draws, 2);
    const Planes<const uint8_t> given{masks.data(), planes, size.height, size.width, size.area()};
    const Metric metric = draws.one_in(2) ? Metric::exact : Metric::chamfer;
    std::vector<double> out = sized<double>(planes * size.area());
    cpu::distance_transform(given, {metric, draws.unit() + 0.01, draws.unit() + 0.01}, out.data(),
                            draw_threads(draws));
    digest.add(out);
    std::vector<int32_t> labels = sized<int32_t>(planes * size.area());
    std::vector<int64_t> counts = sized<int64_t>(planes);
    cpu::label_components(given, labels.data(), counts.data(), draw_threads(draws));
    digest.add(labels);
}

void attack_chambers(Draws& draws, Digest& digest) {
    const int64_t channels = draws.between(1, 4), planes = channels * draws.between(0, 3);
    const Size size{draws.length(50), draws.length(50)};
    const std::vector<float> probabilities = floats(planes * size.area(), draws);
    const Planes<const float> given{probabilities.data(), planes, size.height, size.width,
                                    size.area()};
    std::vector<uint8_t> masks = sized<uint8_t>(planes * size.area());
    cpu::clean_chambers(given, {channels, draws.unit(), draws.one_in(2)}, masks.data(),
                        draw_threads(draws));
    digest.add(masks);
    std::vector<float> scores = sized<float>(planes), stability = sized<float>(planes);
    cpu::chamber_scores(given, masks.data(), {scores.data(), stability.data()},
                        draw_threads(draws));
    if (draws.one_in(2)) masks = bytes(planes * size.area(), draws, 2);
    const int64_t disks = draws.between(1, 24);
    const AxisRule rules[] = {AxisRule::exact, AxisRule::upright, AxisRule::as_published};
    std::vector<ShapeMeasures> measures = sized<ShapeMeasures>(planes);
    std::vector<double> chords = sized<double>(planes * disks * 4);
    std::vector<double> diameters = sized<double>(planes * disks);
    cpu::measure_shapes({masks.data(), planes, size.height, size.width, size.area()},
                        {disks, rules[draws.below(3)]},
                        {measures.data(), chords.data(), diameters.data()}, draw_threads(draws));
}

// Weights as text lines "name axes shape..." and, after an empty line, the numbers in float32.
class StoredWeights {
  public:
    // Nothing is read without a path.
    explicit StoredWeights(const char* path) {
        if (!path) return;
        std::ifstream file(path, std::ios::binary);
        std::vector<std::pair<std::string, std::vector<int64_t>>> entries;
        std::string name;
        while (std::getline(file, name, ' ') && name != "end") {
            int64_t axes = 0;
            file >> axes;
            std::vector<int64_t> shape(static_cast<size_t>(axes));
            for (int64_t& length : shape) file >> length;
            file.get();
            entries.emplace_back(name, shape);
        }
        file.get();
        for (const auto& [key, shape] : entries) {
            int64_t count = 1;
            for (const int64_t length : shape) count *= length;
            std::vector<float>& values = values_[key];
            values.resize(static_cast<size_t>(count));
            file.read(reinterpret_cast<char*>(values.data()), count * 4);
            weights[key] = {values.data(), shape};
        }
        if (!file) throw std::runtime_error(std::string("cannot read ") + path);
    }

    cpu::nn::Weights weights;

  private:
    std::map<std::string, std::vector<float>> values_;
};

// The decoder in each kernel table of this processor, for squares of a few sizes.
void attack_decoder(const cpu::nn::Weights& weights, Draws& draws, Digest& digest) {
    const std::vector<std::string> tables = cpu::sam_decoder::kernel_table_names();
    const int64_t grid = 4 * draws.between(1, 3);
    const cpu::sam_decoder::Decoder decoder(
        weights, grid, 16 * grid, tables[static_cast<size_t>(draws.below(tables.size()))]);
    const int64_t images = draws.between(1, 2), count = draws.between(0, 9);
    const int64_t points = draws.between(1, 4), masked = draws.one_in(3), low = 16 * grid * grid;
    std::vector<float> states = sized<float>(images * decoder.state_size());
    for (int64_t image = 0; image < images; ++image) {
        const std::vector<float> embedding = floats(256 * grid * grid, draws);
        decoder.image_state({embedding.data()}, states.data() + image * decoder.state_size(),
                            draw_threads(draws));
    }
    const std::vector<float> places = floats(count * points * 2, draws);
    const std::vector<float> given = floats(masked * count * low, draws);
    std::vector<int32_t> labels(static_cast<size_t>(count * points)), index;
    for (int32_t& label : labels) label = static_cast<int32_t>(draws.between(-1, 3));
    if (!labels.empty() && draws.one_in(8)) labels[0] = static_cast<int32_t>(draws.between(-9, 9));
    for (int64_t i = 0; i < count; ++i) index.push_back(static_cast<int32_t>(draws.below(images)));
    if (count && draws.one_in(8)) index[0] = static_cast<int32_t>(draws.between(-1, 3));
    const int64_t size = decoder.prompt_state_size(points, masked);
    std::vector<float> ious = sized<float>(count * 4), vectors = sized<float>(count * 128);
    std::vector<float> prompt_states = sized<float>(count * size);
    std::vector<float> logits = sized<float>(count * 4 * low);
    const cpu::sam_decoder::Prompts prompts{
        places.data(), labels.data(), masked ? given.data() : nullptr, index.data(), count, points};
    decoder.decode(prompts, states.data(), images,
                   {ious.data(), vectors.data(), prompt_states.data()}, draw_threads(draws));
    decoder.draw(
        {prompt_states.data(), vectors.data(), index.data(), count, size, 4, logits.data()},
        states.data(), images, draw_threads(draws));
    digest.add(ious);
    digest.add(logits);
    const int64_t first = draws.between(0, 3);
    decoder.decode_above(prompts, states.data(), images, ious.data(),
                         {draws.below(3) ? draws.unit() : -std::numeric_limits<float>::infinity(),
                          first, draws.between(first + 1, 4), logits.data(),
                          draws.between(1, 4 * grid), draws.between(1, 4 * grid)},
                         draw_threads(draws));
    digest.add(ious);
}

// Tries a case: 1 if it was refused. `digest` is that of what it made.
int try_case(const std::string& mode, uint64_t seed, int64_t index, const cpu::nn::Weights& weights,
             uint64_t& digest) {
    current_case = index;
    Draws draws(seed * 1000003 + static_cast<uint64_t>(index));
    Digest made;
    int refused = 0;
    void (*const kernels[])(Draws&, Digest&) = {attack_images,  attack_binarise, attack_boxes,
                                                attack_frames,  attack_chambers, attack_counts,
                                                attack_strings, attack_distances};
    try {
        if (mode == "decoder" || (mode == "threads" && index % 8 == 7))
            attack_decoder(weights, draws, made);
        else if (mode == "runs")
            kernels[5 + index % 2](draws, made);
        else
            kernels[index % 8](draws, made);
    } catch (const std::invalid_argument&) {
        refused = 1;
    }
    digest = made.value();
    return refused;
}

int64_t try_all(const std::string& mode, uint64_t seed, int64_t first, int64_t count,
                const cpu::nn::Weights& weights, std::vector<uint64_t>& digests) {
    int64_t refused = 0;
    digests.resize(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i)
        refused += try_case(mode, seed, first + i, weights, digests[static_cast<size_t>(i)]);
    return refused;
}

}  // namespace

int main(int count, char** words) {
    if (count < 5) return 2;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    __sanitizer_set_death_callback(name_case);
#endif
    std::set_terminate([] {
        name_case();
        std::abort();
    });
    const std::string mode = words[1];
    const uint64_t seed = std::strtoull(words[2], nullptr, 10);
    const int64_t first = std::atoll(words[3]), cases = std::atoll(words[4]);
    const StoredWeights stored(count > 5 ? words[5] : nullptr);
    constexpr int callers = 3;
    std::vector<uint64_t> digests[callers];
    std::atomic<int64_t> refused = 0;
    std::vector<std::thread> team;
    for (int caller = 1; mode == "threads" && caller < callers; ++caller)
        team.emplace_back(
            [&, caller] { try_all(mode, seed, first, cases, stored.weights, digests[caller]); });
    refused = try_all(mode, seed, first, cases, stored.weights, digests[0]);
    for (std::thread& member : team) member.join();
    for (int caller = 1; mode == "threads" && caller < callers; ++caller)
        if (digests[caller] != digests[0]) {
            std::fprintf(stderr, "threads made other bits\n");
            return 3;
        }
    std::printf("%lld\n", static_cast<long long>(refused));
}
