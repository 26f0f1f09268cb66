"""Refinement: a second point corrects the mask of the first, starting from its logits."""

import fastseg
from fastseg.demo import PICTURE

model = fastseg.load("sam-nano")
embedding = model.embed(PICTURE)
first = model.segment(embedding, points=[335, 44]).best()
second = model.segment(
    embedding, points=[[335, 44], [300, 10]], labels=[1, 0], mask_logits=first.logits[0]
).best()
print(f"{first.areas[0]} pixels after one click, {second.areas[0]} after two")
