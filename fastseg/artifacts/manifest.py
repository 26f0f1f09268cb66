"""The manifest of a model folder, ``model.json``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Any, NoReturn, TypeAlias, TypeVar

from fastseg.contract import DType, GraphSpec, TensorSpec, graph_role
from fastseg.errors import ModelFolderError

SCHEMA = 1
"""Version of ``model.json``; a folder with a higher one was written by a newer fastseg."""

REMEDY = "Copy the folder again, or export the model again."

LARGEST_SIDE = 4096
"""Largest side of a network's input in pixels; one such image takes 200 MB."""

LONGEST_SIDE = "longest_side_bilinear"
"""Resizing of images for SAM. An image that is resized in another way than in its model's training
gives masks that look right, so an unknown word is an error."""

AREA_CUBIC = "area_400_cubic"
"""Resizing of frames: by area to 400 pixels, then bicubically to the network's side."""

JOINT_MIN_MAX = "joint_min_max"
"""Normalisation of frames: (x - min) / (max - min) over all channels of a frame together."""

SAM = "sam"
"""The family of promptable models."""

UNET = "unet"
"""The family of networks that segment frames without prompts."""

Json: TypeAlias = Mapping[str, Any]
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """The conversion of an image to the encoder's input."""

    side: int
    """Side of the model's square input in pixels."""

    mean: tuple[float, float, float]
    """Subtracted from R, G, B on the 0..255 scale."""

    std: tuple[float, float, float]
    """Divides R, G, B afterwards."""

    resize: str = LONGEST_SIDE
    """The longest side becomes ``side`` by Pillow's bilinear filter; the rest is padded with 0."""


@dataclass(frozen=True, slots=True)
class FramePreprocessing:
    """The conversion of an ultrasound frame to the input of a network that takes no prompt."""

    side: int = 256
    """Side of the network's square input in pixels."""

    channels: int = 3
    """3 for luma and two chroma channels (YCbCr), 1 for luma alone."""

    resize: str = AREA_CUBIC
    normalise: str = JOINT_MIN_MAX
    field_of_view_cm: float = 20.0
    """Side of the square in cm."""

    @property
    def cm_per_pixel(self) -> float:
        """Size of a pixel of the network's square in cm."""
        return self.field_of_view_cm / self.side


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file of the folder, with its hash and length."""

    file: str
    """Name inside the folder, without any directory."""

    sha256: str
    """Of the whole content, 64 lower-case hexadecimal digits."""

    bytes: int
    """Length in bytes."""


@dataclass(frozen=True, slots=True)
class GraphFile:
    """One graph of the folder with its files."""

    graph: GraphSpec
    file: str
    sha256: str
    precision: str
    """Precision of the graph's arithmetic: ``"fp32"``, ``"fp16"`` or ``"int8"``."""

    bytes: int
    data: tuple[StoredFile, ...] = ()
    """Weights outside the graph's file: those that a native kernel reads too, and those beyond the
    2 GB that one ONNX file can hold."""

    blocks: tuple[Json, ...] = ()
    """For a graph of reduced precision: the precision of each block, with its measurements."""

    comparison: Json = field(default_factory=dict)
    """For a graph of reduced precision: the comparison of its masks with the float32 ones. A graph
    without one was never compared."""

    @property
    def files(self) -> tuple[StoredFile, ...]:
        """The files that the graph needs, its own first."""
        return (StoredFile(self.file, self.sha256, self.bytes), *self.data)

    @property
    def content(self) -> str:
        """The hash of the graph with its outside weights; the file's own where there are none."""
        if not self.data:
            return self.sha256
        return sha256("".join(file.sha256 for file in self.files).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Manifest:
    """The whole of ``model.json``."""

    family: str
    """Pipeline of the graphs: ``"sam"``, or ``"unet"`` for frames without prompts."""

    name: str
    preprocessing: Preprocessing | FramePreprocessing
    graphs: Mapping[str, GraphFile]
    """By a key that is unique in the folder: the graph's name, for the precision exported first."""

    weights: Mapping[str, StoredFile] = field(default_factory=dict)
    """Weights for native kernels (``artifacts.safetensors``), by the graph that a kernel runs."""

    source: Json = field(default_factory=dict)
    """Origin of the weights: checkpoint file, sha256, kind of network."""

    licence: str = ""
    description: str = ""
    written_by: Mapping[str, str] = field(default_factory=dict)
    """Versions of the packages that took part in the export."""

    parity: tuple[Json, ...] = ()
    """Differences of the graphs from the source network when they were written, a row a tensor."""

    extra: Json = field(default_factory=dict)
    """Anything else that JSON can hold."""

    schema: int = SCHEMA

    @property
    def files(self) -> tuple[StoredFile, ...]:
        """The files of the folder beside ``model.json``, each once."""
        of_graphs = [file for graph in self.graphs.values() for file in graph.files]
        return tuple(dict.fromkeys((*of_graphs, *self.weights.values())))

    @property
    def image_preprocessing(self) -> Preprocessing:
        """``preprocessing`` of a model that takes prompts.

        Raises:
            ModelFolderError: The model is of another kind.
        """
        if not isinstance(self.preprocessing, Preprocessing):
            raise ModelFolderError(f"{self.name} takes no prompts: it is of family {self.family!r}")
        return self.preprocessing

    @property
    def frame_preprocessing(self) -> FramePreprocessing:
        """``preprocessing`` of a network that takes frames.

        Raises:
            ModelFolderError: The model is of another kind.
        """
        if not isinstance(self.preprocessing, FramePreprocessing):
            raise ModelFolderError(f"{self.name} takes no frames: it is of family {self.family!r}")
        return self.preprocessing

    @property
    def view(self) -> str:
        """The view that a network for frames is made for, ``"a4c"``.

        Raises:
            ModelFolderError: The folder does not say.
        """
        return _Fields(self.extra, f"{self.name}: extra").get("view", str)

    @property
    def classes(self) -> tuple[str, ...]:
        """The class of each output channel of a network for frames, in order.

        Raises:
            ModelFolderError: The folder does not say, or says something twice.
        """
        fields = _Fields(self.extra, f"{self.name}: extra")
        classes = fields.get("classes", list)
        if not all(isinstance(name, str) for name in classes) or len({*classes}) < len(classes):
            fields.refuse(f"classes must be different names, not {classes}")
        return tuple(classes)


def to_json(manifest: Manifest) -> str:
    """Write a manifest as the text of ``model.json``; ``from_json`` returns an equal one."""
    fields = asdict(manifest)
    ordered = {"schema": fields.pop("schema"), **fields}
    return json.dumps(ordered, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def from_json(text: str) -> Manifest:
    """Read the text of ``model.json``.

    Raises:
        ModelFolderError: It is not JSON, a field is missing or of the wrong type, or the schema is
            newer than this fastseg.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelFolderError(f"model.json is not JSON: {error}. {REMEDY}") from error
    root = _Fields(document, "model.json")
    schema = root.get("schema", int)
    if schema > SCHEMA:
        raise ModelFolderError(
            f"model.json has schema {schema}, this fastseg reads up to {SCHEMA}. Upgrade fastseg."
        )
    graphs, family = root.get("graphs", dict), root.get("family", str)
    read = _frame_preprocessing if family == UNET else _preprocessing
    manifest = Manifest(
        schema=schema,
        family=family,
        name=root.get("name", str),
        preprocessing=read(_Fields(root.get("preprocessing", dict), "preprocessing")),
        graphs={key: _graph_file(_Fields(value, key)) for key, value in graphs.items()},
        weights=_weights(root),
        source=root.get("source", dict),
        licence=root.get("licence", str),
        description=root.get("description", str),
        written_by=root.get("written_by", dict),
        parity=tuple(root.get("parity", list)),
        extra=root.get("extra", dict),
    )
    _check_inputs(manifest)
    return manifest


def _check_inputs(manifest: Manifest) -> None:
    """Hold the graphs that take images against the side that images are resized to."""
    side = manifest.preprocessing.side
    for name, stored in manifest.graphs.items():
        for tensor in stored.graph.inputs if graph_role(name) == "image" else ():
            sides = tensor.shape[2:]
            if any(isinstance(size, int) and size != side for size in sides):
                raise ModelFolderError(
                    f"model.json resizes images to {side} pixels, but its graph {name} takes "
                    f"{' x '.join(map(str, sides))}. {REMEDY}"
                )


class _Fields:
    """A JSON object whose fields are read by name and type."""

    def __init__(self, document: object, where: str) -> None:
        self.where = where
        if not isinstance(document, dict):
            self.refuse(f"is {type(document).__name__}, not an object")
        self.document: dict[str, Any] = document

    def get(self, name: str, kind: type[Value], default: Value | None = None) -> Value:
        """Read the field ``name``, which must be a ``kind``; ``default``, if any, where absent."""
        if name not in self.document:
            if default is not None:
                return default
            self.refuse(f"has no field {name!r}")
        value = self.document[name]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            self.refuse(f"{name} is {type(value).__name__}, not {kind.__name__}")
        return value

    def objects(self, name: str) -> list[_Fields]:
        """Read the field ``name``, a list of objects."""
        return [_Fields(value, f"{self.where} {name}") for value in self.get(name, list)]

    def refuse(self, reason: str) -> NoReturn:
        """Raise an error for this object."""
        raise ModelFolderError(f"{self.where} {reason}. {REMEDY}")


def _preprocessing(fields: _Fields) -> Preprocessing:
    def triple(name: str) -> tuple[float, float, float]:
        values = fields.get(name, list)
        if len(values) != 3 or not all(type(value) in (int, float) for value in values):
            fields.refuse(f"{name} must be three numbers, not {values}")
        try:
            red, green, blue = (float(value) for value in values)
        except OverflowError:  # an integer beyond every float
            fields.refuse(f"{name} must be three finite numbers")
        return red, green, blue

    found = Preprocessing(
        side=fields.get("side", int),
        mean=triple("mean"),
        std=triple("std"),
        resize=fields.get("resize", str),
    )
    _known("resizing", found.resize, LONGEST_SIDE)
    _check_side(found.side, fields)
    if not (all(map(math.isfinite, found.mean)) and all(0 < x < math.inf for x in found.std)):
        fields.refuse(f"mean and std must be finite and std positive: {found.mean}, {found.std}")
    return found


def _frame_preprocessing(fields: _Fields) -> FramePreprocessing:
    found = FramePreprocessing(
        side=fields.get("side", int),
        channels=fields.get("channels", int),
        resize=fields.get("resize", str),
        normalise=fields.get("normalise", str),
        field_of_view_cm=fields.get("field_of_view_cm", float),
    )
    _known("resizing", found.resize, AREA_CUBIC)
    _known("normalisation", found.normalise, JOINT_MIN_MAX)
    _check_side(found.side, fields)
    if found.channels not in (1, 3):
        fields.refuse(f"channels must be 1 or 3, not {found.channels}")
    if not 0 < found.field_of_view_cm < math.inf:
        fields.refuse(f"field_of_view_cm must be positive, not {found.field_of_view_cm}")
    return found


def _known(what: str, word: str, known: str) -> None:
    """Refuse a preprocessing that only a newer fastseg can know."""
    if word != known:
        raise ModelFolderError(
            f"model.json asks for the {what} {word!r}, and this fastseg knows only {known!r}. "
            "Upgrade fastseg."
        )


def _check_side(side: int, fields: _Fields) -> None:
    if side < 16 or side % 16 or side > LARGEST_SIDE:
        fields.refuse(f"side must be a multiple of 16 up to {LARGEST_SIDE}, not {side}")


def _graph_file(fields: _Fields) -> GraphFile:
    own = _stored_file(fields)
    graph = _Fields(fields.get("graph", dict), f"{fields.where} graph")
    return GraphFile(
        graph=GraphSpec(
            name=graph.get("name", str),
            inputs=tuple(_tensor(tensor) for tensor in graph.objects("inputs")),
            outputs=tuple(_tensor(tensor) for tensor in graph.objects("outputs")),
        ),
        file=own.file,
        sha256=own.sha256,
        bytes=own.bytes,
        precision=fields.get("precision", str),
        data=tuple(_stored_file(stored) for stored in fields.objects("data")),
        # A float32 graph need not have either.
        blocks=tuple(fields.get("blocks", list, [])),
        comparison=fields.get("comparison", dict, {}),
    )


def _weights(root: _Fields) -> dict[str, StoredFile]:
    if "weights" not in root.document:
        return {}
    weights = root.get("weights", dict)
    return {key: _stored_file(_Fields(value, f"weights {key}")) for key, value in weights.items()}


def _stored_file(fields: _Fields) -> StoredFile:
    file = fields.get("file", str)
    if not file or file != file.replace("\\", "/").rsplit("/", 1)[-1] or file in (".", ".."):
        fields.refuse(f"names the file {file!r}, which is not a plain name inside the folder")
    return StoredFile(file, fields.get("sha256", str), fields.get("bytes", int))


_DTYPES: Mapping[str, DType] = {"float32": "float32", "float16": "float16", "int32": "int32"}


def _tensor(fields: _Fields) -> TensorSpec:
    dtype, shape = fields.get("dtype", str), fields.get("shape", list)
    if dtype not in _DTYPES:
        fields.refuse(f"has the dtype {dtype!r}, not one of {sorted(_DTYPES)}")
    if not all(isinstance(size, int | str) and not isinstance(size, bool) for size in shape):
        fields.refuse(f"has the shape {shape}, which must be numbers and names")
    return TensorSpec(fields.get("name", str), _DTYPES[dtype], tuple(shape))
