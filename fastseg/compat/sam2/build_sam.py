"""Constructors of models by the name of a configuration."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any, NoReturn

from fastseg.compat.exported import model_folder
from fastseg.compat.sam2.model import Sam2, refuse_download
from fastseg.errors import BackendError, CheckpointError
from fastseg.inputs.numbers import shown

_CONFIGURATION = re.compile(r"sam2(?:\.1)?_hiera_(t|s|b\+|l)(?:\.yaml)?$")

_SIZES = {"t": "tiny", "s": "small", "b+": "base-plus", "l": "large"}


def build_sam2(
    config_file: str,
    ckpt_path: str | os.PathLike[str] | None = None,
    device: object = "cuda",
    mode: str = "eval",
    hydra_overrides_extra: Sequence[str] = (),
    apply_postprocessing: bool = True,
    **kwargs: Any,  # noqa: ARG001 - taken and left, as in the reference
) -> Sam2:
    """Make a SAM 2 or 2.1 for images.

    Args:
        config_file: Name of a configuration, ``"configs/sam2.1/sam2.1_hiera_t.yaml"``. It tells
            the size, which a checkpoint must be of; no file is read.
        ckpt_path: The weights. The first time a file is exported to a model folder in the user's
            cache, which takes minutes and needs the extra ``export``. Or a model folder of fastseg.
        device: ``"cuda"``, ``"cpu"``, ``"cuda:1"`` or such a ``torch.device``.
        mode: ``"eval"``: fastseg does not train.
        hydra_overrides_extra: None, as there is no configuration to change.
        apply_postprocessing: Take the best alternative where the single mask is not stable.
        **kwargs: Without effect.

    Raises:
        MissingCheckpointError: There is no such file. It is a ``FileNotFoundError`` too.
        WrongCheckpointError: The file is of another size. It is a ``RuntimeError`` too.
        CheckpointError: There is no such configuration, ``ckpt_path`` is None, or the file is
            damaged or holds code.
        BackendError: There is no such device here, or ``mode`` is another one. It is a
            ``RuntimeError`` too.
        BackendUnavailableError: The file was not exported yet, and the extra is not installed.
    """
    found = _CONFIGURATION.search(PurePath(str(config_file)).name)
    if found is None:
        raise CheckpointError(
            f"there is no configuration {shown(config_file)}. Name that of a size: "
            "configs/sam2.1/sam2.1_hiera_t.yaml, _s, _b+ or _l, or the same of sam2."
        )
    if mode != "eval":
        raise BackendError(f"mode is {shown(mode)}, and fastseg does not train. Use 'eval'.")
    if list(hydra_overrides_extra):
        raise CheckpointError(
            f"fastseg has no configuration to change by {list(hydra_overrides_extra)}. Leave "
            "hydra_overrides_extra out."
        )
    kind = f"sam2-hiera-{_SIZES[found[1]]}"
    folder = model_folder(ckpt_path, kind, preprocess="sam2")
    model = Sam2(folder, device, stable=bool(apply_postprocessing))
    model.require(model.loaded)
    return model


def build_sam2_hf(model_id: str, **kwargs: Any) -> NoReturn:  # noqa: ARG001
    """Refuse to fetch a model by its name.

    Raises:
        CheckpointError: Always: fastseg downloads nothing that was not named by its address.
    """
    refuse_download(model_id)
