"""Values of every kind that a caller may give by mistake, and calls with each of them."""

from __future__ import annotations

import inspect
import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from fastseg.errors import FastsegError
from fastseg.inputs.numbers import shown

MOST_TAKEN = 4
"""Items taken from what a call yields."""


class Strange:
    """An object that answers no question about itself."""

    def __repr__(self) -> str:
        raise RuntimeError("no representation")

    def __array__(self, *_: object, **__: object) -> Any:
        raise RuntimeError("no array")

    def __len__(self) -> int:
        raise RuntimeError("no length")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not comparable")

    __hash__ = None  # type: ignore[assignment]


class Endless:
    """A sequence without an end."""

    def __getitem__(self, index: int) -> int:
        return 0


SCALARS: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 7, 255, 256, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63 - 1,
    2**63, 2**64, -(2**63), 10**30, 10**400, -(10**400),
    0.0, -0.0, 0.5, 1.0, 1.5, -1.5, 1e-300, 5e-324, 1e30, 1e39, 1e300, 1.7e308,
    float("nan"), float("inf"), float("-inf"), 1j, complex("nan"),
    Decimal("0.5"), Decimal("NaN"), Decimal("1e400"), Fraction(1, 3), date(2026, 1, 1),
    np.bool_(True), np.int8(-128), np.uint8(255), np.uint64(2**64 - 1), np.float16("inf"),
    np.float32("nan"), np.float64(0.25), np.complex64(1j), np.datetime64("NaT"), np.str_("x"),
    np.array(3), np.array(0.5), np.array(None), np.ma.masked,
)  # fmt: skip

TEXTS: tuple[Any, ...] = (
    "", " ", "0", "1", "nan", "auto", "cpu", "cuda", "cuda:99", "rgb", "bgr", "fp32", "sam-nano",
    "no such thing", "../..", "/", "/dev/null", "/dev/zero", "~", "~nobody/x", ".", "a" * 300,
    "a/" * 3000, "a\0b", "a\nb", "\x1b[31m", "[bold]x[/bold]", "\udc80", "\ud800", "😀", "é", "é",
    b"", b"x", b"\0" * 100, b"\x89PNG\r\n\x1a\n", b"GIF89a", b"DICM", bytearray(b"x"),
    memoryview(b"abc"), Path(), Path("no/such"), Path("/proc/self/mem"),
)  # fmt: skip

TYPES: tuple[Any, ...] = (
    object(), Strange(), Endless(), int, np.ndarray, len, lambda: 0, ..., NotImplemented,
    slice(None), slice(0, 10**30), range(3), range(10**12), Exception("x"),
)  # fmt: skip

COLLECTIONS: tuple[Any, ...] = (
    [], (), {}, set(), [[]], [()], [[], []], [None], [[None]], [0], [1, 2], [1, 2, 3], [1, 2, 3, 4],
    [1, 2, 3, 4, 5], [[1, 2]], [[1, 2], [3]], [[1, 2, 3, 4]], [[4, 3, 2, 1]], [[[1, 2]]],
    [[[1, 2], [3, 4]]], [[[1, 2]], [[3, 4], [5, 6]]], [["a", "b"]], "ab", ["ab"], [b"ab"],
    [1, "2"], [1, None], [[1, 2], None], [True, False], [1.5, 2.5], [float("nan")] * 2,
    [float("inf")] * 4, [1e39] * 2, [1e39] * 4, [10**400] * 2, [1j, 2j], [-1e30, -1e30, 1e30, 1e30],
    {"a": 1}, {0: [1, 2]}, {1, 2}, frozenset({1}), [{}], [[{}]], [object()], [Strange()],
    [[[[[[[[1]]]]]]]], [0] * 10_000, [[0, 0]] * 300,
)  # fmt: skip

DTYPES = "?bBhHiIlLqQefdgFDSUOMm"
"""NumPy's types, each of which makes an array of one and of two axes."""

SHAPES = (
    (0,), (1,), (2,), (4,), (0, 0), (0, 2), (0, 4), (1, 2), (2, 2), (1, 4), (3, 4), (0, 3, 3),
    (1, 1, 2), (2, 3, 2), (8, 8), (8, 8, 1), (8, 8, 2), (8, 8, 3), (8, 8, 4), (8, 8, 5), (1, 8, 8),
    (3, 8, 8), (2, 8, 8, 3), (1, 32, 32), (1,) * 32,
)  # fmt: skip


def odd_values() -> Iterator[Any]:
    """Yield some 200 values; each call makes new ones, as some of them can be used up."""
    yield from SCALARS
    yield from TEXTS
    yield from TYPES
    yield from COLLECTIONS
    for kind in DTYPES:
        yield np.zeros(4, kind)
        yield np.zeros((8, 8), kind)
    for shape in SHAPES:
        yield np.ones(shape, np.float32)
    yield np.full((8, 8, 3), np.nan)
    yield np.ma.masked_array(np.ones((2, 2)), [[True, False], [False, True]])
    yield np.ones((8, 8, 3), np.uint8)[::-1, ::-2]
    yield np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), (10**6, 10**6, 3), (0, 0, 0))
    yield np.zeros((3, 3), [("a", "i4"), ("b", "f4")])
    yield np.ones((4,), ">f4")
    yield np.rec.array([(1, 2.0)], dtype=[("a", int), ("b", float)])
    yield iter([])
    yield iter([1, 2])
    yield (one for one in [[1, 2], [3, 4]])
    yield itertools.repeat([1, 2])


@dataclass(frozen=True)
class Entry:
    """A public function and arguments that it takes."""

    name: str
    function: Callable[..., Any]
    good: Mapping[str, Any]

    other_errors: tuple[type[Exception], ...] = ()
    """Errors beside fastseg's own that the docstring names."""

    dear: Mapping[str, range] = field(default_factory=dict)
    """Integers by argument that are fine and would take minutes."""

    @property
    def arguments(self) -> list[str]:
        """Names of the arguments that are tried."""
        skipped = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        found = inspect.signature(self.function).parameters.values()
        return [one.name for one in found if one.kind not in skipped]

    def call(self, argument: str, value: Any) -> None:
        """Call the function with one argument replaced, and use what it returns."""
        if isinstance(value, int | np.integer) and int(value) in self.dear.get(argument, ()):
            return
        if argument in ("classify", "progress") and callable(value):
            return  # it would be called, and its errors are the caller's own
        given = {**self.good, argument: value}
        kinds = inspect.signature(self.function).parameters
        places = [
            given.pop(name)
            for name, one in kinds.items()
            if one.kind is inspect.Parameter.POSITIONAL_ONLY
        ]
        result = self.function(*places, **given)
        if isinstance(result, Iterator):
            for _ in itertools.islice(result, MOST_TAKEN):
                pass


def faults_of(entry: Entry) -> dict[tuple[str, type], Any]:
    """Call a function with every odd value for each argument.

    Returns:
        The first value and its error, for each argument and class of errors that are neither
        fastseg's nor named by the docstring.
    """
    wrong: dict[tuple[str, type], Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for argument in entry.arguments:
            for value in odd_values():
                error = _raised_by(entry, argument, value)
                if error is not None:
                    wrong.setdefault((argument, type(error)), (shown(value), error))
    return wrong


def _raised_by(entry: Entry, argument: str, value: Any) -> Exception | None:
    """Return the error of a call, unless it is one that the docstring names."""
    try:
        entry.call(argument, value)
    except (FastsegError, *entry.other_errors):
        return None
    except Exception as error:  # what the tests are about
        return error
    return None
