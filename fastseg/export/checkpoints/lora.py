"""LoRA weights (Hu et al. 2021) in the layouts that people save, merged into the network's own.

A low-rank pair A (rank, inputs) and B (outputs, rank) changes a weight by ``scale * B @ A``, all of
its rows or those of queries, keys or values. A merged network costs no more than its base.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from fastseg.errors import CheckpointError
from fastseg.export.checkpoints.files import listed

_CONFIG = "adapter_config.json"

_QKV = re.compile(
    r"(?P<path>.*\.attn\.qkv)\.(?:linear_(?P<a>[ab])_(?P<b>[qv])|"
    r"w_(?P<c>[ab])_linear_(?P<d>[qkv]))\.weight$"
)
_PROJECTION = re.compile(r"(?P<path>.*\.[qkv]_proj)\.w_(?P<side>[ab])\.weight$")
_MLP = re.compile(r"(?P<path>.*\.mlp)\.w_(?P<side>[ab])_linear_(?P<layer>[12])\.weight$")
_PEFT = re.compile(r"(?:base_model\.model\.)?(?P<path>.*)\.lora_(?P<side>[AB])(?:\.\w+)?\.weight$")
_NUMBERED = re.compile(r"(?P<group>w|sa|cti|cit)_(?P<side>[ab])_(?P<number>\d{3})$")
_FINAL = re.compile(r"fati_(?P<part>[qv])(?P<side>[ab])$")
_LORALIB = re.compile(r".*\.lora_[AB]$")

_WRAPPED = (
    (re.compile(r"(.*\.attn\.qkv)\.qkv(?:_proj)?\.(weight|bias)$"), r"\1.\2"),
    (re.compile(r"(.*\.[qkv]_proj)\.proj\.(weight|bias)$"), r"\1.\2"),
    (re.compile(r"(.*\.mlp)\.mlp_layer\.(lin[12])\.(weight|bias)$"), r"\1.\2.\3"),
    (re.compile(r"(?:base_model\.model\.)?(.*)\.base_layer\.(weight|bias)$"), r"\1.\2"),
)
"""Names of the network's own weights inside LoRA layers, and what they are without."""

_ATTENTIONS = {
    "sa": "self_attn",
    "cti": "cross_attn_token_to_image",
    "cit": "cross_attn_image_to_token",
}
_HEAD = re.compile(r"fc_\d+in_\d+out")
"""A classifier beside numbered pairs, which no mask depends on."""


@dataclass(frozen=True, slots=True)
class _Place:
    """The weight that a pair changes."""

    name: str
    rows: str = ""
    """``"q"``, ``"k"`` or ``"v"`` for a part of the rows; empty for all."""


@dataclass(slots=True)
class LowRank:
    """The pairs of a file, and its other weights under the names of the network."""

    sides: dict[_Place, dict[str, Tensor]] = field(default_factory=dict)
    numbered: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    """Pairs of the encoder by number: 2 n for queries and 2 n + 1 for values of block n."""

    others: dict[str, Tensor] = field(default_factory=dict)
    peft: bool = False
    """True if the scale stands in a file of settings."""

    def __bool__(self) -> bool:
        """Return True if there is any pair."""
        return bool(self.sides or self.numbered)


def parse(path: Path, weights: Mapping[str, Tensor]) -> LowRank:
    """Sort the weights of a file into pairs and others.

    Raises:
        CheckpointError: The file is of loralib, which does not tell whether it is merged.
    """
    found = LowRank()
    for name, tensor in weights.items():
        if _LORALIB.match(name):
            raise CheckpointError(
                f"{path} holds {name}, as loralib saves it, and does not tell whether the pairs "
                "are merged into the weights already. Save it after merging, without the pairs"
            )
        if not _take(found, name, tensor):
            found.others[_bare(name)] = tensor
    return found


def _take(found: LowRank, name: str, tensor: Tensor) -> bool:
    """Put one side of a pair where it belongs; False for another weight."""
    if match := _NUMBERED.match(name):
        number, group = int(match["number"]), match["group"]
        if group == "w":
            found.numbered.setdefault(number, {})[match["side"]] = tensor
        else:
            part = "q" if number % 2 == 0 else "v"
            layer = f"mask_decoder.transformer.layers.{number // 2}.{_ATTENTIONS[group]}"
            _put(found, _Place(f"{layer}.{part}_proj.weight"), match["side"], tensor)
    elif match := _FINAL.match(name):
        layer = "mask_decoder.transformer.final_attn_token_to_image"
        _put(found, _Place(f"{layer}.{match['part']}_proj.weight"), match["side"], tensor)
    elif match := _QKV.match(name):
        place = _Place(f"{match['path']}.weight", match["b"] or match["d"])
        _put(found, place, match["a"] or match["c"], tensor)
    elif match := _PROJECTION.match(name):
        _put(found, _Place(f"{match['path']}.weight"), match["side"], tensor)
    elif match := _MLP.match(name):
        place = _Place(f"{match['path']}.lin{match['layer']}.weight")
        _put(found, place, match["side"], tensor)
    elif match := _PEFT.match(name):
        found.peft = True
        _put(found, _Place(f"{match['path']}.weight"), match["side"].lower(), tensor)
    else:
        return False
    return True


def _put(found: LowRank, place: _Place, side: str, tensor: Tensor) -> None:
    found.sides.setdefault(place, {})[side] = tensor


def _bare(name: str) -> str:
    for pattern, replacement in _WRAPPED:
        if pattern.match(name):
            return pattern.sub(replacement, name)
    return name


def merge(path: Path, base: Mapping[str, Tensor], low_rank: LowRank) -> dict[str, Tensor]:
    """Merge pairs into the weights of a network, in float32.

    Args:
        path: The file of the pairs, for errors and for the settings beside it.
        base: The weights of the network; the file's own go before them.
        low_rank: What ``parse`` found.

    Raises:
        CheckpointError: A pair lacks a side, is of another network or rank, or its scale or block
            is not known.
    """
    _refuse_adapters(path, low_rank.others)
    own = {name: each for name, each in low_rank.others.items() if not _HEAD.match(name)}
    _require_known(path, base, own)
    merged = {**base, **own}
    scale = _scale(path) if low_rank.peft else 1.0
    pairs = dict(low_rank.sides)
    pairs.update(_of_blocks(path, merged, low_rank.numbered))
    for place, sides in pairs.items():
        if set(sides) != {"a", "b"}:
            raise CheckpointError(f"{path} holds only one side of the pair for {place.name}")
        merged[place.name] = _changed(path, merged, place, (sides["a"], sides["b"]), scale)
    return merged


def _changed(
    path: Path,
    weights: Mapping[str, Tensor],
    place: _Place,
    pair: tuple[Tensor, Tensor],
    scale: float,
) -> Tensor:
    """Add a pair to the rows of its weight."""
    down, up = (each.detach().float() for each in pair)
    weight = weights.get(place.name)
    if weight is None:
        raise CheckpointError(
            f"{path} changes {place.name}, which the network does not have: the pairs are of "
            "another network. Name its base"
        )
    if down.ndim != 2 or up.ndim != 2 or down.shape[0] != up.shape[1]:
        raise CheckpointError(
            f"{path} holds a pair of different ranks for {place.name}: {tuple(down.shape)} and "
            f"{tuple(up.shape)}. The file is damaged, or of two trainings"
        )
    outputs = up.shape[0]
    first = {"": 0, "q": 0, "k": outputs, "v": weight.shape[0] - outputs}[place.rows]
    fits = weight.ndim == 2 and down.shape[1] == weight.shape[1]
    whole = place.rows != "" or outputs == weight.shape[0]
    if not fits or not whole or first < 0 or first + outputs > weight.shape[0]:
        raise CheckpointError(
            f"{path} changes {place.name} by ({outputs}, {down.shape[1]}), and the network's is "
            f"{tuple(weight.shape)}: the pairs are of another network. Name its base"
        )
    changed = weight.detach().float().clone()
    changed[first : first + outputs] += scale * (up @ down)
    return changed


def _of_blocks(
    path: Path, weights: Mapping[str, Tensor], numbered: Mapping[int, dict[str, Tensor]]
) -> Iterator[tuple[_Place, dict[str, Tensor]]]:
    """Give the numbered pairs their blocks, which the file does not name."""
    if not numbered:
        return
    depth = sum(
        re.fullmatch(r"image_encoder\.blocks\.\d+\.attn\.qkv\.weight", name) is not None
        for name in weights
    )
    if sorted(numbered) != list(range(2 * depth)):
        raise CheckpointError(
            f"{path} holds {len(numbered)} numbered pairs, and the network has {depth} blocks, of "
            "which each has one for queries and one for values. Which blocks they are of is not in "
            "the file: merge them where it was trained"
        )
    for number, sides in numbered.items():
        name = f"image_encoder.blocks.{number // 2}.attn.qkv.weight"
        yield _Place(name, "q" if number % 2 == 0 else "v"), sides


def _require_known(path: Path, base: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Refuse weights of a file that its base does not have."""
    strange = [
        name
        for name, each in own.items()
        if base and (name not in base or _differ(base[name], each))
    ]
    if strange:
        raise CheckpointError(
            f"{path} holds weights that its base does not have in this shape: "
            f"{listed(sorted(strange))}. Name the base that it was trained over"
        )


def _differ(a: Tensor, b: Tensor) -> bool:
    return a.shape != b.shape


def _refuse_adapters(path: Path, others: Mapping[str, Tensor]) -> None:
    adapters = sorted(name for name in others if "Adapter" in name)
    if adapters:
        raise CheckpointError(
            f"{path} holds adapters ({listed(adapters)}), which are layers of their own and cannot "
            "be merged into a network. fastseg does not export them"
        )


def _scale(path: Path) -> float:
    """Read the scale of PEFT's pairs from the settings beside the file."""
    config = (path if path.is_dir() else path.parent) / _CONFIG
    try:
        settings: Any = json.loads(config.read_text(encoding="utf-8"))
        alpha, rank = float(settings["lora_alpha"]), int(settings["r"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} is of PEFT, whose scale stands in {_CONFIG} beside it, and that cannot be "
            f"read: {error}. Copy it there"
        ) from error
    if rank < 1 or settings.get("rank_pattern") or settings.get("alpha_pattern"):
        raise CheckpointError(
            f"{config} gives ranks or scales of their own to some layers, which fastseg does not "
            "merge. Merge them where it was trained"
        )
    if settings.get("use_dora"):
        raise CheckpointError(f"{config} is of DoRA, which fastseg does not merge")
    return alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)
