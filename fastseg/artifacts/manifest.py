"""The manifest of a model folder, ``model.json``."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Any, TypeAlias, TypeVar

from fastseg.artifacts.guidance import (
    STRETCH_AREA,
    BoxPreprocessing,
    PointPreprocessing,
    box_preprocessing,
    point_preprocessing,
)
from fastseg.artifacts.json_fields import REMEDY, JsonFields
from fastseg.artifacts.preprocessing import (
    FramePreprocessing,
    Preprocessing,
    frame_preprocessing,
    image_preprocessing,
)
from fastseg.artifacts.rules import Rules, read_rules
from fastseg.contract import DType, GraphSpec, TensorSpec, graph_role
from fastseg.errors import ModelFolderError

Wanted = TypeVar("Wanted")

SCHEMA = 1
"""Version of ``model.json``; a folder with a higher one was written by a newer fastseg."""

SAM = "sam"
"""The family of promptable models."""

UNET = "unet"
"""The family of networks that segment frames without prompts."""

RITM = "ritm"
"""The family of iterative-mask networks, which take points and the last mask as channels."""

SPECIALIST = "specialist"
"""The family of networks that take a box as a channel."""

GUIDED = (RITM, SPECIALIST)
"""Families whose prompts are channels of the input of one network."""

AnyPreprocessing: TypeAlias = (
    Preprocessing | FramePreprocessing | PointPreprocessing | BoxPreprocessing
)

Json: TypeAlias = Mapping[str, Any]


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
    """Pipeline of the graphs: ``"sam"``, ``"unet"`` for frames without prompts, ``"ritm"`` or
    ``"specialist"``."""

    name: str
    preprocessing: AnyPreprocessing
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

    rules: Rules | None = None
    """For prompts and masks, where they are not those of SAM; see ``sam_rules``."""

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
        return self._preprocessing_of(Preprocessing, "takes no prompts")

    @property
    def side(self) -> int | None:
        """Side of the square that images are resized to; None where they keep their size."""
        found = self.preprocessing
        if isinstance(found, BoxPreprocessing):
            return found.size[0] if found.resize == STRETCH_AREA else None
        return None if isinstance(found, PointPreprocessing) else found.side

    @property
    def square(self) -> int | None:
        """Side of the square that prompts are placed in; None where they keep their place."""
        if isinstance(self.preprocessing, Preprocessing):
            return self.preprocessing.square
        return self.side

    @property
    def sam_rules(self) -> Rules:
        """The rules for prompts and masks of a model that takes prompts."""
        return self.rules or Rules()

    @property
    def frame_preprocessing(self) -> FramePreprocessing:
        """``preprocessing`` of a network that takes frames.

        Raises:
            ModelFolderError: The model is of another kind.
        """
        return self._preprocessing_of(FramePreprocessing, "takes no frames")

    @property
    def point_preprocessing(self) -> PointPreprocessing:
        """``preprocessing`` of an iterative-mask network.

        Raises:
            ModelFolderError: The model is of another kind.
        """
        return self._preprocessing_of(PointPreprocessing, "is no RITM")

    @property
    def box_preprocessing(self) -> BoxPreprocessing:
        """``preprocessing`` of a network that takes a box as a channel.

        Raises:
            ModelFolderError: The model is of another kind.
        """
        return self._preprocessing_of(BoxPreprocessing, "is no specialist")

    def _preprocessing_of(self, kind: type[Wanted], lack: str) -> Wanted:
        """Return ``preprocessing`` if it is of a kind; ``lack`` says what another model is not."""
        if not isinstance(self.preprocessing, kind):
            raise ModelFolderError(f"{self.name} {lack}: it is of family {self.family!r}")
        return self.preprocessing

    @property
    def view(self) -> str:
        """The view that a network for frames is made for, ``"a4c"``.

        Raises:
            ModelFolderError: The folder does not say.
        """
        return JsonFields(self.extra, f"{self.name}: extra").get("view", str)

    @property
    def classes(self) -> tuple[str, ...]:
        """The class of each output channel of a network for frames, in order.

        Raises:
            ModelFolderError: The folder does not say, or says something twice.
        """
        fields = JsonFields(self.extra, f"{self.name}: extra")
        classes = fields.get("classes", list)
        if not all(isinstance(name, str) for name in classes) or len({*classes}) < len(classes):
            fields.refuse(f"classes must be different names, not {classes}")
        return tuple(classes)


def to_json(manifest: Manifest) -> str:
    """Write a manifest as the text of ``model.json``; ``from_json`` returns an equal one."""
    fields = asdict(manifest)
    ordered = {"schema": fields.pop("schema"), **fields}
    if fields["preprocessing"].get("prompt_side") is None:
        fields["preprocessing"].pop("prompt_side", None)
    if manifest.rules is None:
        del ordered["rules"]
    else:
        ordered["rules"] = manifest.rules.as_dict()
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
    root = JsonFields(document, "model.json")
    schema = root.get("schema", int)
    if schema > SCHEMA:
        raise ModelFolderError(
            f"model.json has schema {schema}, this fastseg reads up to {SCHEMA}. Upgrade fastseg."
        )
    graphs, family = root.get("graphs", dict), root.get("family", str)
    read = _READERS.get(family, image_preprocessing)
    manifest = Manifest(
        schema=schema,
        family=family,
        name=root.get("name", str),
        preprocessing=read(JsonFields(root.get("preprocessing", dict), "preprocessing")),
        graphs={key: _graph_file(JsonFields(value, key)) for key, value in graphs.items()},
        weights=_weights(root),
        source=root.get("source", dict),
        licence=root.get("licence", str),
        description=root.get("description", str),
        written_by=root.get("written_by", dict),
        parity=tuple(root.get("parity", list)),
        extra=root.get("extra", dict),
        rules=_rules(root),
    )
    _check_inputs(manifest)
    return manifest


_READERS: Mapping[str, Callable[[JsonFields], AnyPreprocessing]] = {
    UNET: frame_preprocessing,
    RITM: point_preprocessing,
    SPECIALIST: box_preprocessing,
}
"""Readers of ``preprocessing`` of the families that are not like SAM."""


def _check_inputs(manifest: Manifest) -> None:
    """Hold the graphs that take images against the side that images are resized to."""
    side = manifest.side
    if side is None:
        return
    for name, stored in manifest.graphs.items():
        for tensor in stored.graph.inputs if graph_role(name) == "image" else ():
            sides = tensor.shape[2:]
            if any(isinstance(size, int) and size != side for size in sides):
                raise ModelFolderError(
                    f"model.json resizes images to {side} pixels, but its graph {name} takes "
                    f"{' x '.join(map(str, sides))}. {REMEDY}"
                )


def _graph_file(fields: JsonFields) -> GraphFile:
    own = _stored_file(fields)
    graph = JsonFields(fields.get("graph", dict), f"{fields.where} graph")
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


def _weights(root: JsonFields) -> dict[str, StoredFile]:
    if "weights" not in root.document:
        return {}
    weights = root.get("weights", dict)
    return {
        key: _stored_file(JsonFields(value, f"weights {key}")) for key, value in weights.items()
    }


def _rules(root: JsonFields) -> Rules | None:
    if "rules" not in root.document:
        return None
    return read_rules(JsonFields(root.get("rules", dict), "rules"))


def _stored_file(fields: JsonFields) -> StoredFile:
    file = fields.get("file", str)
    if not file or file != file.replace("\\", "/").rsplit("/", 1)[-1] or file in (".", ".."):
        fields.refuse(f"names the file {file!r}, which is not a plain name inside the folder")
    return StoredFile(file, fields.get("sha256", str), fields.get("bytes", int))


_DTYPES: Mapping[str, DType] = {"float32": "float32", "float16": "float16", "int32": "int32"}


def _tensor(fields: JsonFields) -> TensorSpec:
    dtype, shape = fields.get("dtype", str), fields.get("shape", list)
    if dtype not in _DTYPES:
        fields.refuse(f"has the dtype {dtype!r}, not one of {sorted(_DTYPES)}")
    if not all(isinstance(size, int | str) and not isinstance(size, bool) for size in shape):
        fields.refuse(f"has the shape {shape}, which must be numbers and names")
    return TensorSpec(fields.get("name", str), _DTYPES[dtype], tuple(shape))
