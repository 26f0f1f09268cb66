"""Many images in bounded memory: the next ones are read while this one is segmented."""

import fastseg
from fastseg.demo import BOXES, PICTURE

model = fastseg.load("sam-nano")
images = (PICTURE for _ in range(3))  # any iterable, a generator over a cohort for one
boxes = (box for box in BOXES[:3])  # one entry an image
for number, masks in enumerate(model.stream(images, boxes=boxes, multimask=False)):
    print(f"image {number}: {masks.areas[0]} pixels in {masks.timings.total:.0f} ms")
