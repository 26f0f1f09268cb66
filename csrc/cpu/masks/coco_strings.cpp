// COCO's text form of run lengths: each count, from the third on less the one two before, in groups
// of 5 bits, lowest first; bit 6 says that more follow, and 48 makes a printable character.
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "cpu/masks/rle.h"
#include "kernels.h"

namespace fastseg::cpu {
namespace {

constexpr int group_bits = 5;
constexpr int64_t group_mask = 0x1f;
constexpr int64_t sign_bit = 0x10;
constexpr int64_t more_bit = 0x20;
constexpr int64_t first_character = 48;
constexpr int longest_number = 7;  // groups: 35 bits hold any difference of two counts

void write_number(int64_t value, std::vector<char>& text) {
    bool more = true;
    while (more) {
        int64_t group = value & group_mask;
        value >>= group_bits;
        more = (group & sign_bit) ? value != -1 : value != 0;
        if (more) group |= more_bit;
        text.push_back(static_cast<char>(group + first_character));
    }
}

std::vector<char> write_text(const uint32_t* counts, int64_t length) {
    std::vector<char> text;
    for (int64_t i = 0; i < length; ++i) {
        const int64_t before = i > 2 ? counts[i - 2] : 0;
        write_number(static_cast<int64_t>(counts[i]) - before, text);
    }
    return text;
}

// Reads numbers from one text and says what is wrong with it.
class TextReader {
  public:
    TextReader(const char* begin, const char* end, int64_t index)
        : at_(begin), end_(end), index_(index) {}

    bool done() const { return at_ == end_; }

    int64_t number() {
        int64_t value = 0;
        for (int group = 0; group < longest_number; ++group) {
            const int64_t bits = next();
            value |= (bits & group_mask) << (group_bits * group);
            if (bits & more_bit) continue;
            if (bits & sign_bit) value |= -(int64_t{1} << (group_bits * (group + 1)));
            return value;
        }
        fail("holds a number that is too long");
    }

    [[noreturn]] void fail(const std::string& reason) const {
        throw std::invalid_argument("the run-length string of mask " + std::to_string(index_) +
                                    " " + reason);
    }

  private:
    int64_t next() {
        if (done()) fail("ends in the middle of a number");
        const int64_t bits = static_cast<unsigned char>(*at_++) - first_character;
        if (bits < 0 || bits > 0x3f) fail("holds a character that COCO never writes");
        return bits;
    }

    const char* at_;
    const char* end_;
    int64_t index_;
};

Counts read_text(TextReader reader) {
    Counts counts;
    while (!reader.done()) {
        int64_t count = reader.number();
        if (counts.size() > 2) count += counts[counts.size() - 2];
        if (count < 0 || count > std::numeric_limits<uint32_t>::max()) {
            reader.fail("gives a run length of " + std::to_string(count));
        }
        counts.push_back(static_cast<uint32_t>(count));
    }
    return counts;
}

}  // namespace

void rle_to_strings(Rle runs, const StringsOut& out) {
    rle_check(runs);
    std::vector<std::vector<char>> texts;
    texts.reserve(static_cast<size_t>(runs.masks));
    for (int64_t index = 0; index < runs.masks; ++index) {
        const int64_t begin = runs.offsets[index];
        texts.push_back(write_text(runs.counts + begin, runs.offsets[index + 1] - begin));
    }
    join(texts, out.data, out.offsets);
}

void rle_from_strings(Strings texts, Size size, const RleOut& out) {
    std::vector<Counts> lists;
    lists.reserve(static_cast<size_t>(texts.count));
    for (int64_t index = 0; index < texts.count; ++index) {
        lists.push_back(read_text(TextReader(texts.data + texts.offsets[index],
                                             texts.data + texts.offsets[index + 1], index)));
    }
    std::vector<int64_t> offsets(lists.size() + 1);
    Counts joined;
    join(lists, Allocate<uint32_t>([&](int64_t count) {
             joined.resize(static_cast<size_t>(count));
             return joined.data();
         }),
         offsets.data());
    rle_check({joined.data(), offsets.data(), texts.count, size});
    std::copy(joined.begin(), joined.end(), out.counts(static_cast<int64_t>(joined.size())));
    std::copy(offsets.begin(), offsets.end(), out.offsets);
}

}  // namespace fastseg::cpu
