"""A promptable model folder whose graphs run in milliseconds.

The tiny model has SAM's graphs and shapes and no weights. A point gives discs about it, a box gives
rectangles, a mask prompt gives a disc of its place and area; a background point makes discs shrink
away from it. The predicted IoU is higher where the image is brighter.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from fastseg import artifacts
from fastseg.artifacts.manifest import Manifest
from fastseg.artifacts.preprocessing import Preprocessing
from fastseg.contract import Array, Dimension, DType, GraphSpec, TensorSpec
from fastseg.testing.onnx_text import compile_graph

SIDE = 128
GRID = SIDE // 16
LOW = SIDE // 4
"""Sides of the tiny model's square, of its embedding and of its low-resolution logits."""

RADII = (14.0, 8.0, 14.0, 24.0)
"""Radius of the disc in each of the four mask slots, in pixels of the square."""


def tiny_sam_folder(path: str | os.PathLike[str]) -> Path:
    """Write the tiny model to the folder ``path``; needs the package ``onnx`` and nothing else.

    Returns:
        ``path``, ready for ``fastseg.load``. The same bytes each time.

    Raises:
        OutputError: The folder is taken or cannot be written.
    """
    import onnx

    folder = Path(path)
    with artifacts.write(folder) as temporary:
        graphs = {}
        for graph, body in _GRAPHS:
            file = temporary / f"{graph.name}.onnx"
            file.write_bytes(compile_graph(graph, body, _constants()))
            graphs[graph.name] = artifacts.graph_file(graph, file)
        manifest = Manifest(
            family="sam",
            name="tiny-sam",
            preprocessing=Preprocessing(
                side=SIDE, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)
            ),
            graphs=graphs,
            source={"kind": "formulas, no weights"},
            licence="Apache-2.0",
            description="Draws discs about points and rectangles in boxes, for tests",
            written_by={"onnx": onnx.__version__},
        )
        artifacts.write_manifest(temporary, manifest)
    return folder


def _tensor(name: str, *shape: Dimension, dtype: DType = "float32") -> TensorSpec:
    return TensorSpec(name, dtype, shape)


_CELLS = GRID * GRID
_EMBEDDING = (256, GRID, GRID)
_BRIGHTNESS = _tensor("brightness", _CELLS)
_POINTS = (
    _tensor("point_coords", "prompts", "points", 2),
    _tensor("point_labels", "prompts", "points", dtype="int32"),
)
_MASK = _tensor("mask_input", "prompts", 1, LOW, LOW)
_PREDICTIONS = (
    _tensor("iou_predictions", "prompts", 4),
    _tensor("mask_vectors", "prompts", 4, 32),
    _tensor("image_tokens", "prompts", 5, LOW, LOW),
)

_ENCODER = """
    cells = AveragePool <kernel_shape = [16, 16], strides = [16, 16]> (image)
    often = Constant <value = int64[4] {1, 86, 1, 1}> ()
    many = Tile (cells, often)
    c0 = Constant <value = int64[1] {0}> ()
    c256 = Constant <value = int64[1] {256}> ()
    c1 = Constant <value = int64[1] {1}> ()
    embedding = Slice (many, c0, c256, c1)
"""

_IMAGE_STATE = f"""
    c0 = Constant <value = int64[1] {{0}}> ()
    c3 = Constant <value = int64[1] {{3}}> ()
    c1 = Constant <value = int64[1] {{1}}> ()
    rgb = Slice (embedding, c0, c3, c1)
    grey = ReduceMean <keepdims = 0> (rgb, c1)
    flat = Constant <value = int64[1] {{{_CELLS}}}> ()
    brightness = Reshape (grey, flat)
"""

# Without a mask prompt a disc has its slot's radius, and its place is the middle.
_NO_MASK = f"""
    radius_wanted = Constant <value = float[1, 4] {{{", ".join(str(r / SIDE) for r in RADII)}}}> ()
    place = Constant <value = float[1, 2] {{0.5, 0.5}}> ()
"""

_MASK_PROMPT = f"""
    zero_logit = Constant <value = float {{0}}> ()
    inside_b = Greater (mask_input, zero_logit)
    inside_f = Cast <to = 1> (inside_b)
    as_row = Constant <value = int64[2] {{-1, {LOW * LOW}}}> ()
    inside = Reshape (inside_f, as_row)
    axis1 = Constant <value = int64[1] {{1}}> ()
    area = ReduceSum (inside, axis1)
    one = Constant <value = float {{1}}> ()
    area1 = Max (area, one)
    moments = MatMul (inside, pixels)
    place = Div (moments, area1)
    disc_share = Constant <value = float {{{np.pi * LOW * LOW}}}> ()
    squared = Div (area1, disc_share)
    same_area = Sqrt (squared)
    growth = Constant <value = float[1, 4] {{1.0, 0.8, 1.0, 1.2}}> ()
    radius_wanted = Mul (same_area, growth)
"""

# Coordinates are divided by the side. A disc of radius r about c is (r^2 - |p - c|^2) / r > 0 and a
# rectangle of half sides a, b the smaller of (a^2 - (x - cx)^2) / a and (b^2 - (y - cy)^2) / b:
# both are the smaller of two dot products of a mask vector with 1, x, y, x^2, y^2.
_DECODER = f"""
    coords_pads = Constant <value = int64[6] {{0, 0, 0, 0, 1, 0}}> ()
    coords_padded = Pad (point_coords, coords_pads)
    labels_pads = Constant <value = int64[4] {{0, 0, 0, 1}}> ()
    padding = Constant <value = int32 {{-1}}> ()
    labels = Pad (point_labels, labels_pads, padding)
    side = Constant <value = float {{{SIDE}}}> ()
    coords = Div (coords_padded, side)
    a1 = Constant <value = int64[1] {{1}}> ()
    a2 = Constant <value = int64[1] {{2}}> ()
    f0 = Constant <value = float {{0}}> ()
    f1 = Constant <value = float {{1}}> ()
    half = Constant <value = float {{0.5}}> ()
    l0 = Constant <value = int32 {{0}}> ()
    l1 = Constant <value = int32 {{1}}> ()
    l2 = Constant <value = int32 {{2}}> ()
    l3 = Constant <value = int32 {{3}}> ()

    foreground_b = Equal (labels, l1)
    foreground = Cast <to = 1> (foreground_b)
    foregrounds = ReduceSum (foreground, a1)
    foreground_w = Unsqueeze (foreground, a2)
    foreground_xy = Mul (coords, foreground_w)
    foreground_sum = ReduceSum <keepdims = 0> (foreground_xy, a1)
    foregrounds1 = Max (foregrounds, f1)
    foreground_middle = Div (foreground_sum, foregrounds1)
    has_foreground = Greater (foregrounds, f0)

    first_b = Equal (labels, l2)
    first = Cast <to = 1> (first_b)
    first_w = Unsqueeze (first, a2)
    first_xy = Mul (coords, first_w)
    corner0 = ReduceSum <keepdims = 0> (first_xy, a1)
    last_b = Equal (labels, l3)
    last = Cast <to = 1> (last_b)
    last_w = Unsqueeze (last, a2)
    last_xy = Mul (coords, last_w)
    corner1 = ReduceSum <keepdims = 0> (last_xy, a1)
    boxes = ReduceSum (first, a1)
    has_box = Greater (boxes, f0)
    corners = Add (corner0, corner1)
    middle = Mul (corners, half)
    diagonal = Sub (corner1, corner0)
    half_sides = Mul (diagonal, half)

    foreground_or_place = Where (has_foreground, foreground_middle, place)
    centre = Where (has_box, middle, foreground_or_place)
    centre_row = Unsqueeze (centre, a1)

    away = Sub (coords, centre_row)
    away2 = Mul (away, away)
    distance2 = ReduceSum <keepdims = 0> (away2, a2)
    distance = Sqrt (distance2)
    far = Constant <value = float {{4}}> ()
    background = Equal (labels, l0)
    to_background = Where (background, distance, far)
    nearest = ReduceMin (to_background, a1)
    share = Constant <value = float {{0.8}}> ()
    room = Mul (nearest, share)
    least = Constant <value = float {{{1 / SIDE}}}> ()
    room1 = Max (room, least)
    radius = Min (radius_wanted, room1)
    radius_column = Unsqueeze (radius, a2)

    scale = Constant <value = float[1, 4, 1] {{1.0, 0.6, 1.0, 1.3}}> ()
    half_row = Unsqueeze (half_sides, a1)
    rectangle = Mul (half_row, scale)
    has_box_3 = Unsqueeze (has_box, a2)
    extent_any = Where (has_box_3, rectangle, radius_column)
    extent = Max (extent_any, least)

    parts = Constant <value = int64[2] {{1, 1}}> ()
    a, b = Split <axis = 2> (extent, parts)
    cx, cy = Split <axis = 2> (centre_row, parts)
    nil = Mul (a, f0)
    cx2 = Mul (cx, cx)
    cx_over_a = Div (cx, a)
    cx2_over_a = Div (cx2, a)
    x_0 = Sub (a, cx2_over_a)
    x_1 = Add (cx_over_a, cx_over_a)
    x_2_positive = Reciprocal (a)
    x_2 = Neg (x_2_positive)
    along_x = Concat <axis = 2> (x_0, x_1, nil, x_2, nil)
    cy2 = Mul (cy, cy)
    cy_over_b = Div (cy, b)
    cy2_over_b = Div (cy2, b)
    y_0 = Sub (b, cy2_over_b)
    y_1 = Add (cy_over_b, cy_over_b)
    y_2_positive = Reciprocal (b)
    y_2 = Neg (y_2_positive)
    along_y = Concat <axis = 2> (y_0, nil, y_1, nil, y_2)

    radius_0 = Concat <axis = 2> (a, nil, nil, nil, nil)
    both = Add (along_x, along_y)
    disc = Sub (both, radius_0)
    vector_x = Where (has_box_3, along_x, disc)
    vector_y = Where (has_box_3, along_y, disc)
    vectors = Concat <axis = 2> (vector_x, vector_y)
    sharpness = Constant <value = float[1, 4, 1] {{1024, 1024, 1024, 64}}> ()
    sharp = Mul (vectors, sharpness)
    to_32 = Constant <value = int64[6] {{0, 0, 0, 0, 0, 22}}> ()
    mask_vectors = Pad (sharp, to_32)

    prompts_shape = Shape <start = 0, end = 1> (point_coords)
    rest = Constant <value = int64[3] {{1, 1, 1}}> ()
    tokens_shape = Concat <axis = 0> (prompts_shape, rest)
    image_tokens = Expand (features, tokens_shape)

    grid = Constant <value = float {{{GRID}}}> ()
    in_cells = Mul (centre, grid)
    last_cell = Constant <value = float {{{GRID - 1}}}> ()
    inside_cells = Clip (in_cells, f0, last_cell)
    cell = Floor (inside_cells)
    strides = Constant <value = float[2, 1] {{1, {GRID}}}> ()
    cell_number = MatMul (cell, strides)
    cell_index = Cast <to = 7> (cell_number)
    seen = Gather (brightness, cell_index)
    bright = Tanh (seen)
    slope = Constant <value = float {{0.04}}> ()
    bonus = Mul (bright, slope)
    usual = Constant <value = float[1, 4] {{0.92, 0.90, 0.95, 0.80}}> ()
    iou_predictions = Add (usual, bonus)
"""

_MASK_HEAD = f"""
    flat = Constant <value = int64[3] {{0, 5, {LOW * LOW}}}> ()
    tokens = Reshape (image_tokens, flat)
    parts = Constant <value = int64[3] {{5, 5, 22}}> ()
    vector_x, vector_y, unused = Split <axis = 2> (mask_vectors, parts)
    along_x = MatMul (vector_x, tokens)
    along_y = MatMul (vector_y, tokens)
    smaller = Min (along_x, along_y)
    square = Constant <value = int64[4] {{0, 0, {LOW}, {LOW}}}> ()
    low_res_logits = Reshape (smaller, square)
"""

_GRAPHS = (
    (
        GraphSpec(
            "encoder",
            (_tensor("image", "images", 3, SIDE, SIDE),),
            (_tensor("embedding", "images", *_EMBEDDING),),
        ),
        _ENCODER,
    ),
    (
        GraphSpec("image_state", (_tensor("embedding", 1, *_EMBEDDING),), (_BRIGHTNESS,)),
        _IMAGE_STATE,
    ),
    (GraphSpec("decoder", (_BRIGHTNESS, *_POINTS), _PREDICTIONS), _NO_MASK + _DECODER),
    (
        GraphSpec("decoder_mask", (_BRIGHTNESS, *_POINTS, _MASK), _PREDICTIONS),
        _MASK_PROMPT + _DECODER,
    ),
    (
        GraphSpec(
            "mask_head",
            (
                _tensor("image_tokens", "survivors", 5, LOW, LOW),
                _tensor("mask_vectors", "survivors", "masks", 32),
            ),
            (_tensor("low_res_logits", "survivors", "masks", LOW, LOW),),
        ),
        _MASK_HEAD,
    ),
)


def _constants() -> dict[str, Array]:
    """Return the centres of the low-resolution pixels over the side, and their features."""
    centres = ((np.arange(LOW) + 0.5) / LOW).astype(np.float32)
    y, x = np.meshgrid(centres, centres, indexing="ij")
    return {
        "pixels": np.stack([x.ravel(), y.ravel()], axis=1),
        "features": np.stack([np.ones_like(x), x, y, x * x, y * y])[None],
    }
