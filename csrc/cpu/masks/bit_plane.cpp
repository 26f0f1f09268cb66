#include "cpu/masks/bit_plane.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "cpu/support/multiversion.h"

namespace fastseg::cpu {
namespace {

constexpr int64_t word_bits = BitPlane::word_bits;
constexpr int64_t byte_bits = 8;

// The eight bytes, 0 or 1, that a byte's bits stand for.
using Octet = std::array<uint8_t, byte_bits>;

constexpr std::array<Octet, 256> octets = [] {
    std::array<Octet, 256> table{};
    for (size_t byte = 0; byte < table.size(); ++byte) {
        for (size_t bit = 0; bit < byte_bits; ++bit) table[byte][bit] = byte >> bit & 1;
    }
    return table;
}();

FASTSEG_MULTIVERSION
void pack_above(const float* values, int64_t width, float threshold, uint64_t* words) {
    for (int64_t x = 0; x < width; x += word_bits) {
        const int64_t count = std::min(word_bits, width - x);
        uint64_t word = 0;
        for (int64_t i = 0; i < count; ++i) word |= uint64_t{values[x + i] > threshold} << i;
        *words++ = word;
    }
}

FASTSEG_MULTIVERSION
void pack_nonzero(const uint8_t* bytes, int64_t width, uint64_t* words) {
    for (int64_t x = 0; x < width; x += word_bits) {
        const int64_t count = std::min(word_bits, width - x);
        uint64_t word = 0;
        for (int64_t i = 0; i < count; ++i) word |= uint64_t{bytes[x + i] != 0} << i;
        *words++ = word;
    }
}

// A row with every pixel set also where a neighbour at most `reach` (1 or 2) columns away is set,
// joined to `out`.
void join_spread(const uint64_t* row, int64_t words, int reach, uint64_t* out) {
    for (int64_t i = 0; i < words; ++i) {
        const uint64_t here = row[i];
        const uint64_t left = i > 0 ? row[i - 1] : 0;
        const uint64_t right = i + 1 < words ? row[i + 1] : 0;
        uint64_t spread = here | here << 1 | here >> 1 | left >> 63 | right << 63;
        if (reach == 2) spread |= here << 2 | here >> 2 | left >> 62 | right << 62;
        out[i] |= spread;
    }
}

}  // namespace

BitPlane::BitPlane(Size size)
    : size_(size),
      words_((size.width + word_bits - 1) / word_bits),
      last_(~uint64_t{0} >> (words_ * word_bits - size.width)),
      bits_(static_cast<size_t>(size.height * words_), 0) {}

void BitPlane::set_above(const float* values, float threshold) {
    for (int64_t y = 0; y < size_.height; ++y) {
        pack_above(values + y * size_.width, size_.width, threshold, row(y));
    }
}

void BitPlane::set_nonzero(const uint8_t* bytes) {
    for (int64_t y = 0; y < size_.height; ++y) {
        pack_nonzero(bytes + y * size_.width, size_.width, row(y));
    }
}

void BitPlane::write(uint8_t* bytes) const {
    for (int64_t y = 0; y < size_.height; ++y) {
        for (int64_t x = 0; x < size_.width; x += byte_bits) {
            const size_t byte = row(y)[x / word_bits] >> (x % word_bits) & 0xff;
            uint8_t* out = bytes + y * size_.width + x;
            if (x + byte_bits <= size_.width) {
                std::memcpy(out, octets[byte].data(), byte_bits);
            } else {
                std::copy_n(octets[byte].begin(), size_.width - x, out);
            }
        }
    }
}

std::vector<Segment> BitPlane::segments(bool set) const {
    std::vector<Segment> found;
    for (int64_t y = 0; y < size_.height; ++y) {
        int64_t open = -1;  // where a segment began that is not over
        for (int64_t i = 0; i < words_; ++i) {
            const uint64_t word = set ? row(y)[i] : inverted(row(y)[i], i);
            uint64_t changes = word ^ (word << 1 | uint64_t{open >= 0});
            for (; changes != 0; changes &= changes - 1) {
                const int64_t x = i * word_bits + std::countr_zero(changes);
                if (open < 0) {
                    open = x;
                } else {
                    found.push_back({y, open, x});
                    open = -1;
                }
            }
        }
        if (open >= 0) found.push_back({y, open, size_.width});
    }
    return found;
}

void BitPlane::clear() {
    std::fill(bits_.begin(), bits_.end(), uint64_t{0});
}

void BitPlane::fill(const Segment& segment) {
    uint64_t* words = row(segment.line);
    for (int64_t x = segment.begin; x < segment.end;) {
        const int64_t bit = x % word_bits;
        const int64_t count = std::min(word_bits - bit, segment.end - x);
        words[x / word_bits] |= ~uint64_t{0} >> (word_bits - count) << bit;
        x += count;
    }
}

void BitPlane::invert() {
    for (int64_t y = 0; y < size_.height; ++y) {
        for (int64_t i = 0; i < words_; ++i) row(y)[i] = inverted(row(y)[i], i);
    }
}

void BitPlane::dilate_by_disk() {
    const std::vector<uint64_t> before = bits_;
    constexpr int reaches[] = {0, 1, 2, 1, 0};  // of the disk's rows
    for (int64_t y = 0; y < size_.height; ++y) {
        for (int64_t dy = -2; dy <= 2; ++dy) {
            if (y + dy < 0 || y + dy >= size_.height) continue;
            const uint64_t* other = before.data() + (y + dy) * words_;
            const int reach = reaches[dy + 2];
            if (reach > 0) {
                join_spread(other, words_, reach, row(y));
            } else {
                for (int64_t i = 0; i < words_; ++i) row(y)[i] |= other[i];
            }
        }
        row(y)[words_ - 1] &= last_;
    }
}

void BitPlane::close_by_disk() {
    dilate_by_disk();
    invert();  // to shrink a mask is to grow its background
    dilate_by_disk();
    invert();
}

}  // namespace fastseg::cpu
