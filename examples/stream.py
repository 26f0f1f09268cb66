"""Many images in bounded memory: the next ones are read while one is segmented."""

import fastseg
from fastseg.demo import BOXES, PICTURE

model = fastseg.load("sam-nano")
images = (PICTURE for _ in range(3))  # any iterable, for example a generator over a cohort
boxes = (box for box in BOXES[:3])  # one entry for each image
for number, masks in enumerate(model.stream(images, boxes=boxes, multimask=False)):
    print(f"image {number}: {masks.areas[0]} pixels in {masks.timings.total:.0f} ms")
