// The long axis of a mask, from whole-number moments.
#pragma once

#include <vector>

#include "cpu/masks/connected_components.h"

namespace fastseg::cpu {

struct Point {
    double row, column;
};

// The ellipse with the same second moments of pixel centres.
struct LongAxis {
    Point centroid;
    double major, minor;  // full lengths
    double eccentricity;
    double angle;  // of the major axis, from down the rows towards the columns, -pi/2 to pi/2
};

// Of at least one segment along rows. Sums are exact; what follows them rounds as written.
LongAxis long_axis(const std::vector<Segment>& rows);

// The same direction up to 0.7 radians from down the rows; beyond, the further it leans the nearer
// it is brought back, to 0 for a horizontal one: continuous, also where an angle changes its sign.
double upright(double angle);

// Pixels whose centres lie in the convex hull of the middles of all pixel edges, borders included.
int64_t convex_area(const std::vector<Segment>& rows);

}  // namespace fastseg::cpu
