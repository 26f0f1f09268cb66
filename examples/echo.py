"""Measurements of the heart chambers in an ultrasound frame: a file, or else a drawn frame."""

import sys

import numpy as np

import fastseg
from fastseg.measure import measure

rows, columns = np.mgrid[:256, :256]
drawn = np.where(abs(columns - 128) < 0.8 * rows, 0.5, 0.0)  # tissue in a sector, then chambers
for y, x, high, wide in (
    (100, 155, 55, 27),
    (188, 155, 28, 25),
    (115, 95, 42, 20),
    (188, 92, 26, 25),
):
    drawn[((rows - y) / high) ** 2 + ((columns - x) / wide) ** 2 < 1] = 0.05
masks = fastseg.load("echo-a4c").segment(sys.argv[1] if len(sys.argv) > 1 else drawn)
for chamber in measure(masks, cm_per_pixel=20 / max(masks.size), upright=True):
    print(
        f"{chamber.name}: {chamber.area_cm2:.1f} cm2, {chamber.length_cm:.1f} cm {chamber.reason}"
    )
