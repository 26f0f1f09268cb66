"""The base of every loaded model: its folder, its runtimes and the facts that results carry."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn, TypeVar

from fastseg import artifacts
from fastseg.artifacts import ModelFolder
from fastseg.artifacts.manifest import Manifest
from fastseg.environment import thread_count
from fastseg.errors import BackendError, ImageError
from fastseg.inference.sessions import Choice, Sessions
from fastseg.inputs.numbers import whole_number
from fastseg.timings import Stopwatch, Timings

Model = TypeVar("Model", bound="LoadedModel")


class LoadedModel:
    """A model folder whose graphs run on a runtime.

    Args:
        folder: The folder, read and verified.
        choice: Device, runtime, precision and threads that the user asked for.
        image_graph: The graph that takes images. It is opened here, so that a runtime that does
            not run it fails at load.
        max_pixels: Largest image that is accepted, height x width, or None for any.
    """

    def __init__(
        self, folder: ModelFolder, choice: Choice, *, image_graph: str, max_pixels: int | None
    ) -> None:
        if max_pixels is not None:
            max_pixels = whole_number(max_pixels, "max_pixels", ImageError, least=1)
        graphs = self._graphs = Sessions(folder, choice)
        # Nothing of this changes after load, so it is looked up once and not in every call.
        self.manifest: Manifest = folder.manifest
        """The description of the model in its folder."""
        self.max_pixels = max_pixels
        """Largest image that is accepted, height x width in pixels, or None for any."""
        self.threads = thread_count(choice.threads)
        """Processor threads of a call, at most every core that this process may use."""
        self.backend = graphs.backend
        """The runtime, ``"onnxruntime"``, or the runtimes of encoder and decoder where these are
        two, ``"openvino+onnxruntime"``."""
        self.device = graphs[image_graph].name.partition(":")[2]
        """The device of the image graph, ``"cpu"`` or ``"cuda:0"``."""
        self.precision = graphs.precision
        """The precision of the image graph, ``"fp32"``."""
        self.runs: Mapping[str, str] = MappingProxyType({**graphs.runs})
        """The runtime, device and precision of each graph: ``{"encoder": "openvino:cpu bf16"}``."""
        self.reason = graphs.reason
        """The reason for this choice, in a sentence."""

    def __repr__(self) -> str:
        """Name the model and what it runs on."""
        about = f"{self.manifest.name} on {self.backend} {self.device} {self.precision}"
        return f"<{type(self).__name__}: {about}>"

    def _repr_html_(self) -> str:
        """Show the facts about the model as a table, for a notebook."""
        facts = {"model": self.manifest.name, **self.runs, "threads": self.threads}
        rows = (
            f"<tr><th scope='row'>{escape(name)}</th><td>{escape(str(fact))}</td></tr>"
            for name, fact in facts.items()
        )
        return f"<table>{''.join(rows)}</table>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the folder and the options, of which another process loads the model again."""
        folder = self._graphs.folder.path.absolute()
        return _load_again, (type(self), folder, self._graphs.choice, self.max_pixels)

    def __copy__(self) -> NoReturn:
        """Refuse to be copied: sessions of runtimes are shared, not copied.

        Raises:
            BackendError: Always.
        """
        raise BackendError(
            f"{self!r} cannot be copied, as its runtime would not be. Share the model between "
            "threads, or load it again by fastseg.load."
        )

    def __deepcopy__(self, memo: object) -> NoReturn:
        """Refuse to be copied, as ``__copy__``."""
        self.__copy__()

    def provenance(self) -> dict[str, Any]:
        """Name the model, and the backend, device and precision that it actually runs in."""
        return {
            "model": self.manifest.name,
            "backend": self.backend,
            "device": self.device,
            "precision": self.precision,
            "runs": dict(self.runs),
            "reason": self.reason,
        }

    def close(self) -> None:
        """Free the runtime's memory; embeddings and masks stay usable."""
        self._graphs.close()

    def __enter__(self: Model) -> Model:
        """Use the model in a ``with`` block that closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the model."""
        self.close()

    def _timings(self, watch: Stopwatch, *, n_masks: int) -> Timings:
        """Add to measured times the names of what the model runs on."""
        return watch.timings(
            n_masks=n_masks, backend=self.backend, device=self.device, precision=self.precision
        )


def _load_again(kind: Any, folder: Path, choice: Choice, max_pixels: int | None) -> LoadedModel:
    """Load a model that was pickled.

    Raises:
        ModelNotFoundError: Its folder is not there.
        ModelFolderError: The folder was altered.
    """
    model: LoadedModel = kind(artifacts.read(folder), choice, max_pixels=max_pixels)
    return model
