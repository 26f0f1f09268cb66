"""Whether engines may take the place of the network in FP32: the same masks, or no engine."""

from __future__ import annotations

from fastseg.artifacts import ModelFolder
from fastseg.building import Request, Verdict
from fastseg.inference.sessions import Choice
from fastseg.validation import comparison, probes
from fastseg.validation.comparison import Limits
from fastseg.validation.probes import Question


def compare(folder: ModelFolder, engines: ModelFolder, request: Request, device: str) -> Verdict:
    """Run a model's engines and its graphs in FP32 on the same generated pictures.

    Engines in FP32 are asked for the same masks as those below it: another order of sums moves
    numbers by more than two runtimes on one processor differ.

    Args:
        folder: The model folder, which holds the graphs in FP32.
        engines: The same with the engines.
        request: What was built.
        device: The GPU that runs the engines; FP32 runs on the processor.

    Raises:
        BackendError: The folder holds no graphs in FP32, or the engines do not run.
    """
    exact = Choice(device="cpu", precision="fp32")
    fast = Choice(
        device=device,
        backend=request.backend,
        precision=request.precision,
        allow_uncompared=True,
    )
    manifest = folder.manifest
    asked: list[Question] = [
        probes.ask(manifest, picture) for picture in comparison.samples(manifest)
    ]
    found = comparison.compare(
        probes.answer_all(folder, exact, asked), probes.answer_all(engines, fast, asked)
    )
    limits = Limits.of_masks(manifest.family)
    return Verdict(found.within(limits), found.as_dict(), found.told(limits))
