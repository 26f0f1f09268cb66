// Polygons along the cracks between pixels.
//
// Between two columns the cracks are where exactly one of them is set: vertical edges. Their ends
// are all the corners there are, and along every row line the corners, from left to right, pair
// up to the horizontal edges. An edge has the mask on its right, so outer rings run clockwise on
// the screen (y down) and holes anticlockwise. Where two set pixels touch at a corner only, the
// rings keep to their own pixel; a ring that comes back to a corner is cut in two there. So no ring
// touches itself, and even-odd filling gives the mask back.
#include <stdexcept>
#include <vector>

#include "cpu/masks/rle.h"
#include "cpu/support/parallel.h"
#include "kernels.h"

namespace fastseg::cpu {
namespace {

struct Edge {
    int32_t x, top, bottom;
    bool down;  // the mask is to its left on the screen, so the edge runs down
};

// Corners are numbered 2 * edge (its top) and 2 * edge + 1 (its bottom).
constexpr size_t top_of(size_t edge) {
    return 2 * edge;
}
constexpr size_t bottom_of(size_t edge) {
    return 2 * edge + 1;
}
constexpr size_t none = static_cast<size_t>(-1);

class Outline {
  public:
    Outline(const Rle& runs, int64_t index) {
        const std::vector<Segment> all = segments(runs, index, true);
        if (all.empty()) return;
        const Segment* const end = all.data() + all.size();
        Column left{all.data(), 0};
        // One column more than there are segments for: it closes what is open.
        for (int64_t x = all.front().line; x <= all.back().line + 1; ++x) {
            Column here{left.data + left.count, 0};
            while (here.data + here.count < end && here.data[here.count].line == x) ++here.count;
            add_cracks(static_cast<int32_t>(x), left, here);
            left = here;
        }
        pair_up(runs.size.height);
    }

    // Append the points of every ring and where each one ends.
    void trace(std::vector<int32_t>& points, std::vector<int64_t>& ends) {
        std::vector<uint8_t> visited(edges_.size(), 0);
        index_.assign(2 * edges_.size(), none);
        for (size_t first = 0; first < edges_.size(); ++first) {
            if (visited[first]) continue;
            ring_.clear();
            for (size_t edge = first; !visited[edge];) {
                visited[edge] = 1;
                const size_t start = edges_[edge].down ? top_of(edge) : bottom_of(edge);
                visit(start, points, ends);
                visit(start ^ 1, points, ends);
                edge = across_[start ^ 1] / 2;
            }
            cut(0, points, ends);
        }
    }

  private:
    struct Column {
        const Segment* data;
        size_t count;

        // Row of border `i`: tops and bottoms in turn.
        int64_t border(size_t i) const { return i % 2 ? data[i / 2].end : data[i / 2].begin; }
        size_t borders() const { return 2 * count; }
    };

    void add_cracks(int32_t x, Column left, Column right) {
        size_t i = 0, j = 0;
        size_t open = none;
        while (i < left.borders() || j < right.borders()) {
            const bool from_left =
                j == right.borders() || (i < left.borders() && left.border(i) <= right.border(j));
            const int64_t y = from_left ? left.border(i) : right.border(j);
            while (i < left.borders() && left.border(i) == y) ++i;
            while (j < right.borders() && right.border(j) == y) ++j;
            open = cross_border(x, static_cast<int32_t>(y), {i % 2 == 1, j % 2 == 1}, open);
        }
    }

    struct Sides {
        bool left, right;  // is the pixel below the border set?
    };

    // End the open edge at row y, begin the next one, or both; returns the edge that is open then.
    size_t cross_border(int32_t x, int32_t y, Sides below, size_t open) {
        const bool cracked = below.left != below.right;
        if (open != none && cracked && edges_[open].down == below.left) return open;
        size_t next = none;
        if (open != none) edges_[open].bottom = y;
        if (cracked) {
            next = edges_.size();
            edges_.push_back({x, y, y, below.left});
        }
        // Where four cracks meet, the horizontal one from the left belongs to the set pixel at its
        // side: the upper edge's if the upper left pixel is set, else the lower edge's.
        const bool upper_first = open != none && edges_[open].down;
        if (open != none && upper_first) corners_.push_back(bottom_of(open));
        if (next != none) corners_.push_back(top_of(next));
        if (open != none && !upper_first) corners_.push_back(bottom_of(open));
        if (open != none && next != none) crossings_.push_back({bottom_of(open), top_of(next)});
        return next;
    }

    int32_t row(size_t corner) const {
        const Edge& edge = edges_[corner / 2];
        return corner % 2 ? edge.bottom : edge.top;
    }

    void pair_up(int64_t height) {
        across_.assign(2 * edges_.size(), none);
        twin_.assign(2 * edges_.size(), none);
        std::vector<size_t> unpaired(static_cast<size_t>(height) + 1, none);
        for (const size_t corner : corners_) {
            size_t& other = unpaired[static_cast<size_t>(row(corner))];
            if (other == none) {
                other = corner;
            } else {
                across_[corner] = other;
                across_[other] = corner;
                other = none;
            }
        }
        for (const auto& [upper, lower] : crossings_) {
            twin_[upper] = lower;
            twin_[lower] = upper;
        }
    }

    void visit(size_t corner, std::vector<int32_t>& points, std::vector<int64_t>& ends) {
        const size_t twin = twin_[corner];
        if (twin != none && index_[twin] != none) {
            const size_t begin = index_[twin];
            cut(begin, points, ends);
        }
        index_[corner] = ring_.size();
        ring_.push_back(corner);
    }

    // Write the ring's corners from `begin` on as a ring of their own and forget them.
    void cut(size_t begin, std::vector<int32_t>& points, std::vector<int64_t>& ends) {
        for (size_t i = begin; i < ring_.size(); ++i) {
            points.push_back(edges_[ring_[i] / 2].x);
            points.push_back(row(ring_[i]));
            index_[ring_[i]] = none;
        }
        ring_.resize(begin);
        ends.push_back(static_cast<int64_t>(points.size() / 2));
    }

    struct Crossing {
        size_t upper, lower;
    };

    std::vector<Edge> edges_;
    std::vector<size_t> corners_;      // by column, within a row line from left to right
    std::vector<Crossing> crossings_;  // corners that are one point
    std::vector<size_t> across_;       // the corner at the other end of the horizontal edge
    std::vector<size_t> twin_;         // the corner at the same point
    std::vector<size_t> ring_;         // corners of the ring being traced
    std::vector<size_t> index_;        // of each corner in ring_
};

}  // namespace

void rle_polygons(Rle runs, const PolygonsOut& out, int threads) {
    rle_check(runs);
    const size_t masks = static_cast<size_t>(runs.masks);
    std::vector<std::vector<int32_t>> points(masks);
    std::vector<std::vector<int64_t>> ends(masks);
    const double work = 50.0 * static_cast<double>(runs.offsets[runs.masks]);
    parallel_for(team_size(threads, runs.masks, work), runs.masks, [&] {
        return [&](int64_t index) {
            const size_t i = static_cast<size_t>(index);
            Outline(runs, index).trace(points[i], ends[i]);
        };
    });
    std::vector<int64_t> point_offsets(masks + 1);
    join(points, out.points, point_offsets.data());
    int64_t* ring_ends = nullptr;
    join(ends, Allocate<int64_t>([&](int64_t rings) {
             int64_t* offsets = out.ring_offsets(rings + 1);
             offsets[0] = 0;
             return ring_ends = offsets + 1;
         }),
         out.mask_offsets);
    // So far every mask counts its own points from zero.
    for (size_t i = 0; i < masks; ++i) {
        for (int64_t ring = out.mask_offsets[i]; ring < out.mask_offsets[i + 1]; ++ring) {
            ring_ends[ring] += point_offsets[i] / 2;
        }
    }
}

}  // namespace fastseg::cpu
