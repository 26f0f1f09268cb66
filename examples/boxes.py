"""Masks for boxes: an image is embedded once, and then answers any number of prompts."""

import fastseg
from fastseg.demo import BOXES, PICTURE

model = fastseg.load("sam-nano")
embedding = model.embed(PICTURE)
masks = model.segment(embedding, boxes=BOXES).best()
for box, area, score in zip(masks.boxes, masks.areas, masks.scores, strict=True):
    print(f"{box.tolist()}: {area} pixels, predicted IoU {score:.2f}")
print(f"{masks.timings.per_mask_ms:.1f} ms per mask, {masks.timings.backend}")
