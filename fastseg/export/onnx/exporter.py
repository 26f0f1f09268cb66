"""The exporters of torch and onnxscript, without what takes them long and changes no graph."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from copy import copy
from functools import cache
from importlib import import_module
from typing import Any

from torch import fx

from fastseg.export.onnx.type_promotion import may_promote


@contextmanager
def shorter_exports() -> Iterator[None]:
    """Shorten exports within the block; a part that another version lacks stays as it is.

    - The exporter reads its translations of 500 operators once, and not for each graph.
    - It runs a traced graph to insert conversions of types only if there may be any.
    - A trace does not note the lines of source that each node comes from.
    - No pair of slices is tried as a split: of 300 slices that takes 40 000 trials.
    """
    with ExitStack() as stack:
        for owner, name, value in (
            (_REGISTRY, "from_torchlib", staticmethod(_operators)),
            (_PASSES, "insert_type_promotion_nodes", _insert_promotions),
            (_TRACING, "do_not_emit_stack_traces", True),
            (_REWRITER, "_DEFAULT_REWRITE_RULES", _QUICK_RULES),
        ):
            if hasattr(owner, name):
                stack.callback(setattr, owner, name, vars(owner)[name])
                setattr(owner, name, value)
        yield


@cache
def _read_operators(**options: Any) -> Any:
    return _READ_OPERATORS(**options)


def _operators(**options: Any) -> Any:
    """Return all translations, in tables of their own, as an export adds to them."""
    known = _read_operators(**options)
    own = copy(known)
    own.functions = {operator: [*forms] for operator, forms in known.functions.items()}
    return own


def _insert_promotions(traced: fx.GraphModule) -> None:
    if may_promote(traced):
        _PROMOTE(traced)


def _module(name: str) -> Any:
    """Import a module that other versions of its package may lack; None then."""
    try:
        return import_module(name)
    except ImportError:
        return None


_TRACING = _module("torch.fx.config")
_PASSES = _module("torch.onnx._internal.exporter._fx_passes")
_REWRITER = _module("onnxscript.rewriter")
_REGISTRY = getattr(_module("torch.onnx._internal.exporter._registration"), "ONNXRegistry", None)
_READ_OPERATORS: Any = getattr(_REGISTRY, "from_torchlib", None)
_PROMOTE: Any = getattr(_PASSES, "insert_type_promotion_nodes", None)
_QUICK_RULES = tuple(
    rule for rule in getattr(_REWRITER, "_DEFAULT_REWRITE_RULES", ()) if rule.name != "SlicesSplit"
)
