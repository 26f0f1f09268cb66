"""Numbers from a user as NumPy arrays and Python numbers; nothing is cut on the way.

NumPy drops imaginary parts, masks of masked arrays and fractions when it is asked for a dtype, and
reads text as numbers. Here each of these is an error.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastseg.errors import FastsegError

Kind: TypeAlias = type[FastsegError]
"""The class of the error that is raised."""

MOST_ENTRIES = 10**8
"""Longest sequence that is made an array; a ``range`` can be longer without taking memory."""


def host_array(values: object, what: str, error: Kind) -> NDArray[Any]:
    """Return ``values`` as an array of the dtype that they have.

    Args:
        values: An array, a torch tensor (also one that needs gradients), or nested sequences.
        what: Name of the argument, for the message.
        error: The error to raise.

    Raises:
        FastsegError: ``error``: they are no regular array, or some of them are masked.
    """
    if _is_masked(values):
        raise error(f"{what} has masked values. Leave them out, or fill them: {what}.filled(0).")
    if getattr(values, "requires_grad", False):
        values = values.detach()  # type: ignore[attr-defined]
    if isinstance(values, Sequence) and len(values) > MOST_ENTRIES:
        raise error(f"{what} has {len(values):,} entries. Give a NumPy array.")
    try:
        array = np.asarray(values)
    except Exception as reason:  # each library refuses in its own way
        raise error(
            f"{what} must be numbers in a regular array: {reason}. Give a NumPy array or lists."
        ) from reason
    return array


def real_array(values: object, what: str, error: Kind) -> NDArray[np.float64]:
    """Return ``values`` as float64.

    Args:
        values: As in ``host_array``.
        what: Name of the argument, for the message.
        error: The error to raise.

    Raises:
        FastsegError: ``error``: they are no regular array of real numbers.
    """
    array = host_array(values, what, error)
    kind = array.dtype.kind
    is_text = kind == "O" and any(isinstance(each, str | bytes) for each in array.flat)
    if kind not in "biufO" or is_text:
        named = "text" if is_text or kind in "US" else str(array.dtype)
        raise error(f"{what} must be real numbers, not {named}. Convert them to float first.")
    try:
        return array.astype(np.float64, copy=False)
    except Exception as reason:  # as above, or an integer that is too large
        raise error(f"{what} must be real numbers in a regular array: {reason}.") from reason


def real_number(value: object, what: str, error: Kind, *, positive: bool = False) -> float:
    """Return ``value`` as a finite float.

    Args:
        value: A number of Python or NumPy, or an array or tensor of one number without axes.
        what: Name of the argument, for the message.
        error: The error to raise.
        positive: True if it has to be above 0.

    Raises:
        FastsegError: ``error``: it is no finite real number, or not positive.
    """
    array = real_array(value, what, error)
    number = math.nan if array.ndim else float(array.item())
    if not math.isfinite(number) or (positive and number <= 0):
        kind = "positive" if positive else "finite"
        raise error(f"{what} must be a {kind} number, not {shown(value)}.")
    return number


def whole_number(value: object, what: str, error: Kind, *, least: int) -> int:
    """Return ``value`` as an integer of at least ``least``.

    Args:
        value: An integer of Python or NumPy.
        what: Name of the argument, for the message.
        error: The error to raise.
        least: The smallest integer that is allowed.

    Raises:
        FastsegError: ``error``: it is no integer, or too small.
    """
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = least - 1
    if number < least:
        raise error(f"{what} must be an integer of at least {least}, not {shown(value)}.")
    return number


def one_of(value: object, words: Sequence[str], what: str, error: Kind) -> str:
    """Return ``value`` if it is one of ``words``.

    Args:
        value: A word.
        words: Those that are known.
        what: Name of the argument, for the message.
        error: The error to raise.

    Raises:
        FastsegError: ``error``: it is another word, or no text.
    """
    if not isinstance(value, str) or value not in words:
        known = ", ".join(f'"{word}"' for word in words[:-1])
        raise error(f'{what} must be {known} or "{words[-1]}", not {shown(value)}.')
    return value


def function_of_two_numbers(value: object, what: str, error: Kind) -> None:
    """Require a function that is told of progress, or None.

    Args:
        value: A callable, or None.
        what: Name of the argument, for the message.
        error: The error to raise.

    Raises:
        FastsegError: ``error``: it is something else.
    """
    if value is not None and not callable(value):
        raise error(f"{what} must be a function of two numbers, not {shown(value)}.")


def yes_or_no(value: object, what: str, error: Kind) -> bool:
    """Return ``value`` as a truth value.

    Args:
        value: True or False, of Python or NumPy, or 1 or 0.
        what: Name of the argument, for the message.
        error: The error to raise.

    Raises:
        FastsegError: ``error``: it is something else.
    """
    if not isinstance(value, bool | int | np.bool_ | np.integer) or value not in (0, 1):
        raise error(f"{what} must be True or False, not {shown(value)}.")
    return bool(value)


def shown(value: object) -> str:
    """Return a short representation of a value, for a message."""
    try:
        text = repr(value)
    except Exception:  # an object of the user that cannot show itself, an integer of many digits
        text = f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."


def _is_masked(values: object) -> bool:
    """Tell if an array is masked somewhere, also one of those in a list."""
    if isinstance(values, np.ma.MaskedArray):
        return bool(np.ma.is_masked(values))
    return isinstance(values, list | tuple) and any(_is_masked(each) for each in values)
