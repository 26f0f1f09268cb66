"""Every object of an image, as COCO run-length codes in a JSON file."""

import json
import sys
from pathlib import Path

import fastseg
from fastseg.demo import PICTURE

out = Path(sys.argv[1] if len(sys.argv) > 1 else "coins.json")
masks = fastseg.load("sam-nano").everything(PICTURE, points_per_side=12)
out.write_text(json.dumps(masks.records("coco_rle")))
print(f"{len(masks)} masks in {out}")
