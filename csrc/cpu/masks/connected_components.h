// Connected components of a mask, found from its segments without its pixels.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

namespace fastseg::cpu {

// A piece of a mask along one line, a column or a row: pixels [begin, end) of it.
struct Segment {
    int64_t line, begin, end;

    int64_t length() const { return end - begin; }
};

// The connectivity of pixels on neighbouring lines: 4 (edges) or 8 (corners).
enum class Touch { edges, corners };

// Components of segments that are sorted by line and then by `begin` (union-find; the root of a
// component is its first segment).
class Components {
  public:
    Components(const std::vector<Segment>& segments, Touch touch) : parents_(segments.size()) {
        std::iota(parents_.begin(), parents_.end(), size_t{0});
        const int64_t reach = touch == Touch::corners ? 1 : 0;
        size_t before = 0;  // walks the line before that of `i`
        for (size_t i = 0; i < segments.size(); ++i) {
            const auto [line, begin, end] = segments[i];
            while (before < i &&
                   (segments[before].line < line - 1 ||
                    (segments[before].line == line - 1 && segments[before].end + reach <= begin))) {
                ++before;
            }
            for (size_t j = before;
                 j < i && segments[j].line == line - 1 && segments[j].begin < end + reach; ++j) {
                unite(i, j);
            }
        }
    }

    size_t root(size_t i) {
        while (parents_[i] != i) {
            parents_[i] = parents_[parents_[i]];
            i = parents_[i];
        }
        return i;
    }

  private:
    void unite(size_t a, size_t b) {
        a = root(a);
        b = root(b);
        parents_[std::max(a, b)] = std::min(a, b);
    }

    std::vector<size_t> parents_;
};

}  // namespace fastseg::cpu
