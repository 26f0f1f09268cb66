"""Camera of the scenes with photographs: colour cast, defocus, coarse pixels, noise and JPEG."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter


def expose(random: np.random.Generator, colours: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Photograph colours (height, width, 3) in about [0, 1]; some images come out grey."""
    height, width = colours.shape[:2]
    cast = np.exp(random.normal(0, 0.08, 3)) if random.random() < 0.6 else np.ones(3)
    exposed = np.clip(colours * cast * np.exp(random.normal(0, 0.15)), 0, 1)
    exposed = exposed ** random.uniform(0.75, 1.3)
    image = Image.fromarray((exposed * 255).astype(np.uint8))
    if random.random() < 0.08:
        image = image.convert("L").convert("RGB")
    blur = random.exponential(0.5)
    if blur > 0.3:
        image = image.filter(ImageFilter.GaussianBlur(min(blur, 2.0)))
    # Most photographs are smaller than the model's square and get enlarged to it.
    shrink = random.uniform(1, 2.6) if random.random() < 0.6 else 1.0
    small = image.resize((round(width / shrink), round(height / shrink)), Image.Resampling.BOX)
    pixels = np.asarray(small, dtype=np.float32)
    grain = random.normal(0, 1, pixels.shape[:2])[..., None] * abs(random.normal(0, 3))
    if random.random() < 0.3:
        grain = grain + random.normal(0, 2.5, pixels.shape)
    image = Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8))
    if random.random() < 0.6:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=int(random.integers(35, 96)))
        image = Image.open(file).convert("RGB")
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
