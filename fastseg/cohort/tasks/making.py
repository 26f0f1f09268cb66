"""Tasks made of a name, a model and settings, which are checked before anything is done."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from fastseg.cohort.manifest import Item, Sources
from fastseg.cohort.tasks.base import PromptedTask, Task
from fastseg.cohort.tasks.echo import EchoTask
from fastseg.cohort.tasks.evaluate import EvaluateTask
from fastseg.cohort.tasks.images import EverythingTask, SegmentTask
from fastseg.cohort.tasks.propagate import RULES, PropagateTask
from fastseg.echo.clips import EchoSettings
from fastseg.echo.unet import Unet
from fastseg.echo.views import VIEWS
from fastseg.errors import CohortError, PromptError
from fastseg.evaluation.dataset import ViewSettings, read_dataset
from fastseg.evaluation.protocols import BY_NAME
from fastseg.guided.promptable import PromptModel
from fastseg.imaging.saving import SUFFIXES
from fastseg.inference.sessions import Choice
from fastseg.inputs.numbers import one_of, shown, whole_number, yes_or_no
from fastseg.loading import load_unet
from fastseg.sam.grid_settings import SETTINGS, resolved_settings
from fastseg.sam.model import Sam
from fastseg.sam.volume_prompts import PropagationSettings
from fastseg.storage.paths import user_path

Model = PromptModel | Unet | Mapping[str, Unet] | None
"""A model that takes prompts, or one or several networks for frames."""

_SEGMENT = ("multimask", "best")
_ECHO = ("mode", "channels", "cm_per_pixel", "whole_frame", "bsa_m2", "frames_per_beat")
_VIEW = ("window", "intensity", "spacing")


def make_task(
    name: str,
    model: Model,
    settings: Mapping[str, Any] | None,
    sources: Sources,
    *,
    embeddings: str | os.PathLike[str] | None = None,
) -> Task:
    """Check a task and its settings.

    Args:
        name: A key of ``TASKS``.
        model: A model that takes prompts; for ``echo`` a network for frames, networks by view that
            are compared with each other, or None for the embedded networks of all views.
        settings: ``window`` of images and volumes; ``multimask`` and ``best`` of ``segment``; the
            settings of ``Sam.everything`` that are numbers; ``axis`` and those of
            ``PropagationSettings``, and ``format``, of ``propagate``; ``view`` and those of
            ``EchoSettings`` of ``echo``; ``protocol``, its switches, ``seed``, ``intensity`` and
            ``spacing`` of ``evaluate``.
        sources: The dataset, for ``evaluate``.
        embeddings: Folder that keeps the embeddings of images.

    Raises:
        CohortError: There is no such task or setting, or the model does not suit it.
        PromptError: A setting cannot be used.
        ImageError: There is no such dataset.
    """
    one_of(name, tuple(TASKS), "task", CohortError)
    if settings is not None and not isinstance(settings, Mapping):
        raise CohortError(f"settings must be a dictionary, not {shown(settings)}.")
    given = dict(settings or {})
    if name == EchoTask.name:
        if embeddings is not None:
            raise CohortError("the task echo has no embeddings to keep. Leave embeddings out.")
        return _echo(model, given)
    if not isinstance(model, PromptModel):
        raise CohortError(f"the task {name} needs a model that takes prompts, not {shown(model)}.")
    if not isinstance(model, Sam) and (embeddings is not None or name == PropagateTask.name):
        what = "embeddings" if embeddings is not None else "propagate"
        raise CohortError(
            f"{what} needs a model of SAM's family, not {shown(model)}, which embeds no image."
        )
    kept = None if embeddings is None else user_path(embeddings)
    if name == EvaluateTask.name:
        return _evaluate(model, given, sources, kept)
    return _PROMPTED[name](model, given, kept)


def _require_known(name: str, given: Iterable[str], known: Iterable[str]) -> None:
    unknown = [str(each) for each in given if each not in known]
    if unknown:
        raise CohortError(
            f"the task {name} has no setting {', '.join(unknown)}. It has {', '.join(known)}."
        )


def _segment(model: PromptModel, given: dict[str, Any], kept: Path | None) -> PromptedTask:
    _require_known("segment", given, ("window", *_SEGMENT))
    given = {"multimask": True, "best": False, **given}
    given |= {each: yes_or_no(given[each], each, PromptError) for each in _SEGMENT}
    return _prompted(SegmentTask, model, given, kept)


def _everything(model: PromptModel, given: dict[str, Any], kept: Path | None) -> PromptedTask:
    grid = [each for each in SETTINGS if each not in ("point_grids", "max_device_memory")]
    _require_known("everything", given, ("window", *grid))
    numbers = {each: value for each, value in given.items() if each != "window"}
    checked = resolved_settings(numbers, model.rules)
    given |= {each: getattr(checked, each) for each in grid}
    return _prompted(EverythingTask, model, given, kept)


def _propagate(model: PromptModel, given: dict[str, Any], kept: Path | None) -> PromptedTask:
    _require_known("propagate", given, ("window", "axis", "format", *RULES))
    checked = PropagationSettings(**{each: given[each] for each in RULES if each in given})
    axis = whole_number(given.get("axis", 0), "axis", PromptError, least=0)
    form = given.get("format", "nii.gz")
    if axis > 2:
        raise PromptError(f"axis must be 0, 1 or 2, not {axis}.")
    one_of(form, tuple(suffix[1:] for suffix in SUFFIXES), "format", PromptError)
    if form == "json":
        raise PromptError("every item has a JSON file already. Choose another format.")
    given = {"window": given.get("window"), "axis": axis, "format": form, **asdict(checked)}
    return _prompted(PropagateTask, model, given, kept)


def _echo(model: Model, given: dict[str, Any]) -> EchoTask:
    _require_known("echo", given, ("view", *_ECHO))
    view = given.get("view")
    if view is not None:
        one_of(view, tuple(VIEWS), "view", CohortError)
    if isinstance(model, Unet):
        networks = {model.view: model}
    elif model is None:
        networks = {each: load_unet(f"echo-{each}", Choice()) for each in VIEWS}
    elif isinstance(model, Mapping) and set(model) == set(VIEWS):
        networks = {each: model[each] for each in VIEWS}
    else:
        raise CohortError(
            f"the task echo needs a network for frames, one for each of {', '.join(VIEWS)}, or "
            f"None, not {shown(model)}."
        )
    first = next(iter(networks.values()))
    own = {each: given[each] for each in _ECHO if each in given}
    measuring = EchoSettings(**own, max_pixels=first.max_pixels)
    return EchoTask(
        settings={"view": view, **measuring.as_dict()},
        max_pixels=first.max_pixels,
        networks=networks,
        measuring=measuring,
        are_compared=not isinstance(model, Unet),
    )


def _evaluate(
    model: PromptModel, given: dict[str, Any], sources: Sources, kept: Path | None
) -> EvaluateTask:
    if kept is not None:
        raise CohortError("the task evaluate does not keep embeddings. Leave embeddings out.")
    kind = BY_NAME[one_of(given.pop("protocol", None), tuple(BY_NAME), "protocol", CohortError)]
    switches = [one.name for one in fields(kind)]
    _require_known("evaluate", given, ("protocol", "seed", *_VIEW, *switches))
    seed = whole_number(given.get("seed", 0), "seed", PromptError, least=0)
    chosen = {each: _as_tuple(given[each]) for each in switches if each in given}
    protocol = kind(**chosen)
    intensity = given.get("intensity") or protocol.intensity
    spacing = _as_tuple(given.get("spacing"))
    view = ViewSettings(given.get("window"), intensity, spacing, model.max_pixels)
    described = {
        "protocol": protocol.name,
        "seed": seed,
        **{each: getattr(view, each) for each in _VIEW},
        **protocol.settings(),
    }
    dataset = read_dataset(_only(sources))
    return EvaluateTask(
        settings=described,
        max_pixels=model.max_pixels,
        model=model,
        protocol=protocol,
        dataset=dataset,
        view=view,
        seed=seed,
    )


def _only(sources: Any) -> str | os.PathLike[str]:
    """Return the only source, which is a path.

    Raises:
        CohortError: There are others.
    """
    found = [sources] if isinstance(sources, str | os.PathLike | Item) else list(sources)
    if len(found) != 1 or not isinstance(found[0], str | os.PathLike):
        raise CohortError("the task evaluate takes one dataset: a folder, a COCO file or a CSV.")
    return found[0]


def _prompted(
    kind: type[PromptedTask], model: PromptModel, settings: dict[str, Any], kept: Path | None
) -> PromptedTask:
    return kind(settings=settings, max_pixels=model.max_pixels, model=model, embeddings=kept)


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


_PROMPTED: Mapping[str, Callable[[PromptModel, dict[str, Any], Path | None], PromptedTask]] = {
    SegmentTask.name: _segment,
    EverythingTask.name: _everything,
    PropagateTask.name: _propagate,
}

TASKS = (*_PROMPTED, EchoTask.name, EvaluateTask.name)
"""Names of the tasks."""
