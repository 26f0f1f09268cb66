"""A point, then a correcting point that starts from the first mask."""

import fastseg
from fastseg.demo import PICTURE

model = fastseg.load("sam-nano")
embedding = model.embed(PICTURE)
first = model.segment(embedding, points=[335, 44]).best()
second = model.segment(
    embedding, points=[[335, 44], [300, 10]], labels=[1, 0], mask_logits=first.logits[0]
).best()
print(f"{first.areas[0]} pixels after one point, {second.areas[0]} after two")
