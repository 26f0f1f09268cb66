"""Generated images with known objects: textured shapes in layers, lit unevenly, blurred."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from training import outlines, textures
from training.outlines import Outline

GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Scene:
    """One generated image, and the object of each of its pixels."""

    image: NDArray[np.uint8]
    """``(height, width, 3)`` RGB."""

    labels: NDArray[np.int16]
    """``(height, width)``: 0 is background, k > 0 the k-th object from the back."""

    wholes: NDArray[np.int16]
    """``(objects + 1,)``: the object that an object is a part of, or its own number."""

    ground_known: bool = True
    """False if pixels without a number may show objects too."""


class Canvas:
    """An image under construction: colours in [0, 1] and the label of the topmost object."""

    def __init__(self, random: np.random.Generator, size: tuple[int, int]) -> None:
        self.random = random
        self.size = size
        self.grey = random.random() < 0.5
        self.colours = np.empty((*size, 3), dtype=np.float32)
        self.colours[:] = self.any_colour()
        contrast = random.uniform(0.0, 0.12)
        pattern = textures.mottled(random, size, random.uniform(10, max(size)))
        if random.random() < 0.12:
            pattern = textures.stripes(random, size)
        self.colours += self.tint(pattern) * np.float32(contrast)
        self.labels = np.zeros(size, dtype=np.int16)
        self.wholes = [0]
        self.shared: NDArray[np.float32] | None = None
        """Common colour of alike objects, about which each varies a little."""

    def any_colour(self) -> NDArray[np.float32]:
        """Draw a colour (3,), grey in a grey scene."""
        colour = self.random.uniform(0.08, 0.92, 3).astype(np.float32)
        return np.full(3, colour @ GREY, dtype=np.float32) if self.grey else colour

    def tint(self, plane: textures.Plane) -> NDArray[np.float32]:
        """Spread a texture over the channels, a little differently on each in a coloured scene."""
        weights = np.ones(3) if self.grey else 1 + self.random.normal(0, 0.3, 3)
        return plane[..., None] * weights.astype(np.float32)

    def differing_colour(self, under: NDArray[np.float32]) -> NDArray[np.float32]:
        """Draw a colour that differs from ``under``: brighter or darker by 0.08 to 0.6."""
        if self.shared is not None and self.random.random() < 0.85:
            return self.shared + np.float32(self.random.normal(0, 0.03))
        colour = self.any_colour()
        if self.random.random() < 0.6:  # a shade of its surroundings: contrast is all there is
            colour = np.clip(under + self.random.normal(0, 0.03), 0.02, 0.98).astype(np.float32)
        step = np.float32(self.random.uniform(0.08, 0.6))
        brighter = self.random.random() < (1 - under.mean())
        moved = under @ GREY + (step if brighter else -step) - colour @ GREY
        return np.clip(colour + moved, 0.02, 0.98).astype(np.float32)

    def paint(self, outline: Outline, centre: tuple[float, float], *, part_of: int = 0) -> int:
        """Draw one object; return its label, or 0 if it lies outside the image."""
        height, width = self.size
        corners = outline + np.array(centre)
        x0, y0 = np.maximum(np.floor(corners.min(axis=0)).astype(int) - 8, 0)
        x1, y1 = np.minimum(np.ceil(corners.max(axis=0)).astype(int) + 9, (width, height))
        if x1 - x0 < 4 or y1 - y0 < 4:
            return 0
        window = np.s_[y0:y1, x0:x1]
        local = corners - np.array([x0, y0])
        shape = fill(local, (y1 - y0, x1 - x0))
        inside = shape > 127
        if part_of:
            inside &= self.labels[window] == part_of
        if inside.sum() < 40:
            return 0
        if not part_of and self.random.random() < 0.35:
            self._shadow(window, local)
        under = self.colours[window][inside].mean(axis=0)
        colours = self._surface(local, np.array(centre) - (x0, y0), inside, under)
        self.colours[window] = np.where(inside[..., None], colours, self.colours[window])
        return self.claim(inside, window, part_of=part_of)

    def claim(
        self,
        inside: NDArray[np.bool_],
        window: tuple[slice, slice] = (slice(None), slice(None)),
        *,
        part_of: int = 0,
    ) -> int:
        """Label the pixels ``inside`` of a window as a new object; return its label."""
        label = len(self.wholes)
        self.labels[window][inside] = label
        self.wholes.append(part_of or label)
        return label

    def _surface(
        self,
        local: Outline,
        centre: NDArray[np.float64],
        inside: NDArray[np.bool_],
        under: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        random, size = self.random, inside.shape
        colour = self.differing_colour(under)
        strength = np.float32(random.choice([0.02, 0.05, 0.1, 0.16]))
        colours = colour + self.tint(textures.surface(random, size)) * strength
        y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
        reach = float(np.abs(local - centre).max()) + 1
        across, down = (x - np.float32(centre[0])) / reach, (y - np.float32(centre[1])) / reach
        angle, tilt = random.uniform(0, 2 * np.pi), random.normal(0, 0.09)
        shading = tilt * (np.cos(angle) * across + np.sin(angle) * down)
        if random.random() < 0.3:  # a dome: bright or dark in the middle
            shading = shading + random.normal(0, 0.15) * (0.5 - across**2 - down**2)
        colours = colours + shading[..., None].astype(np.float32)
        if random.random() < 0.35:
            inner = fill((local - centre) * random.uniform(0.8, 0.95) + centre, size) < 128
            colours += inner[..., None] * np.float32(random.normal(0, 0.14))
        return colours

    def _shadow(self, window: tuple[slice, slice], local: Outline) -> None:
        size = self.labels[window].shape
        shape = Image.fromarray(fill(local + self.random.normal(0, 3, 2), size))
        blurred = shape.filter(ImageFilter.GaussianBlur(self.random.uniform(1, 3)))
        depth = np.float32(self.random.uniform(0.1, 0.6) / 255)
        self.colours[window] *= 1 - np.asarray(blurred, dtype=np.float32)[..., None] * depth


def fill(corners: Outline, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Fill the polygon with 255, the rest with 0, on ``(height, width)``."""
    plane = Image.new("L", (size[1], size[0]))
    ImageDraw.Draw(plane).polygon([(float(x), float(y)) for x, y in corners], fill=255)
    return np.asarray(plane)


def scatter(canvas: Canvas) -> None:
    """Paint shapes of all sizes anywhere, later ones over earlier ones."""
    random, (height, width) = canvas.random, canvas.size
    smallest, largest = 9.0, max(18.0, 0.42 * min(height, width))
    wanted = random.uniform(0.25, 1.1) * height * width
    for _ in range(60):
        radius = float(np.exp(random.uniform(np.log(smallest), np.log(largest))))
        centre = (random.uniform(0, width), random.uniform(0, height))
        label = canvas.paint(outlines.random_outline(random, radius), centre)
        if label and radius > 20 and random.random() < 0.15:  # an eye, a hole, a yolk
            inner = outlines.random_outline(random, radius * random.uniform(0.3, 0.55))
            canvas.paint(inner, centre, part_of=label)
        wanted -= 3 * radius**2
        if wanted < 0:
            return


def rows(canvas: Canvas) -> None:
    """Paint alike objects in loose rows, apart or touching: coins, cells, tablets, stones."""
    random, (height, width) = canvas.random, canvas.size
    radius = float(np.exp(random.uniform(np.log(14), np.log(max(18, 0.3 * min(height, width))))))
    pitch = radius * random.uniform(1.9, 3.2)
    kind = outlines.disc if random.random() < 0.6 else outlines.SHAPES[int(random.integers(5))]
    if random.random() < 0.6:
        canvas.shared = canvas.differing_colour(canvas.colours.mean(axis=(0, 1)))
    wander, spread = random.uniform(0, 0.2) * pitch, random.uniform(0.02, 0.25)
    start = random.uniform(-pitch, 0, 2)
    for y in np.arange(start[1], height + pitch, pitch):
        for x in np.arange(start[0], width + pitch, pitch):
            if random.random() < 0.12:
                continue
            size = radius * float(np.clip(random.normal(1, spread), 0.5, 1.5))
            canvas.paint(
                kind(random, size), (x + random.normal(0, wander), y + random.normal(0, wander))
            )


def light(random: np.random.Generator, colours: NDArray[np.float32]) -> NDArray[np.float32]:
    """Apply uneven illumination: a slope and a broad mottle, multiplied in."""
    height, width = colours.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    angle, slope = random.uniform(0, 2 * np.pi), random.uniform(0, 0.45)
    field = 1 + slope * (np.cos(angle) * x + np.sin(angle) * y)
    field += random.uniform(0, 0.15) * textures.smooth_noise(
        random, (height, width), max(height, width) / 2
    )
    return (colours * np.clip(field, 0.2, 1.8)[..., None]).astype(np.float32)


def photograph(random: np.random.Generator, colours: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Apply blur, coarse pixels, noise, contrast: from colours in [0, 1] to an 8-bit image."""
    height, width = colours.shape[:2]
    colours = np.clip(colours, 0, 1.2) ** np.float32(random.uniform(0.7, 1.4))
    if random.random() < 0.15:
        colours = 1 - colours
    reach = random.uniform(0.5, 1.0)
    colours = np.clip(colours, 0, 1) * np.float32(reach) + np.float32(random.uniform(0, 1 - reach))
    image = Image.fromarray((colours * 255).astype(np.uint8))
    blur = random.exponential(0.7)
    if blur > 0.3:
        image = image.filter(ImageFilter.GaussianBlur(min(blur, 2.5)))
    # Most images are smaller than the model's square and get enlarged to it.
    shrink = random.uniform(1, 3.2) if random.random() < 0.65 else 1.0
    small = image.resize((round(width / shrink), round(height / shrink)), Image.Resampling.BILINEAR)
    pixels = np.asarray(small, dtype=np.float32)
    grain = random.normal(0, 1, pixels.shape[:2])[..., None] * abs(random.normal(0, 5))
    if random.random() < 0.3:
        grain = grain + random.normal(0, 3, pixels.shape)
    noisy = np.clip(pixels + grain, 0, 255).astype(np.uint8)
    return np.asarray(Image.fromarray(noisy).resize((width, height), Image.Resampling.BILINEAR))


def generate(random: np.random.Generator, size: tuple[int, int]) -> Scene:
    """Draw a scene of ``(height, width)`` pixels; the generator alone decides its content."""
    canvas = Canvas(random, size)
    (rows if random.random() < 0.4 else scatter)(canvas)
    image = photograph(random, light(random, canvas.colours))
    if canvas.grey:
        image = np.repeat(image[..., :1], 3, axis=2)
    return Scene(image, canvas.labels, np.array(canvas.wholes, dtype=np.int16))
