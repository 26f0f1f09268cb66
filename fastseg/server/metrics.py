"""Metrics in the text format of Prometheus."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

Labels = tuple[tuple[str, str], ...]


class Metrics:
    """Counters, histograms and gauges of one server; safe in several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._help: dict[str, str] = {}
        self._counts: dict[str, dict[Labels, float]] = defaultdict(lambda: defaultdict(float))
        self._histograms: dict[str, dict[Labels, _Histogram]] = defaultdict(dict)
        self._gauges: dict[str, Callable[[], float]] = {}

    def count(self, name: str, about: str, **labels: str) -> None:
        """Add one to a counter."""
        with self._lock:
            self._help[name] = about
            self._counts[name][tuple(labels.items())] += 1

    def observe(self, name: str, about: str, seconds: float, **labels: str) -> None:
        """Add a duration in seconds to a histogram."""
        with self._lock:
            self._help[name] = about
            known = self._histograms[name]
            known.setdefault(tuple(labels.items()), _Histogram()).add(seconds)

    def gauge(self, name: str, about: str, read: Callable[[], float]) -> None:
        """Add a number that is read whenever the metrics are."""
        self._help[name] = about
        self._gauges[name] = read

    def text(self) -> str:
        """Return all metrics, a line each."""
        lines: list[str] = []
        with self._lock:
            for name, counts in self._counts.items():
                lines += self._head(name, "counter")
                lines += [f"{name}{_labels(key)} {value:g}" for key, value in counts.items()]
            for name, histograms in self._histograms.items():
                lines += self._head(name, "histogram")
                for key, histogram in histograms.items():
                    lines += histogram.lines(name, key)
        for name, read in self._gauges.items():
            lines += [*self._head(name, "gauge"), f"{name} {read():.17g}"]
        return "\n".join(lines) + "\n"

    def _head(self, name: str, kind: str) -> list[str]:
        return [f"# HELP {name} {self._help[name]}", f"# TYPE {name} {kind}"]


class _Histogram:
    """Durations, counted by the bounds that they are within."""

    def __init__(self) -> None:
        self.counts = [0] * (len(_BOUNDS_S) + 1)
        self.sum = 0.0

    def add(self, seconds: float) -> None:
        """Count a duration."""
        self.counts[bisect_left(_BOUNDS_S, seconds)] += 1
        self.sum += seconds

    def lines(self, name: str, labels: Labels) -> list[str]:
        """Return the cumulative counts, the sum and the number of durations."""
        found, total = [], 0
        for bound, count in zip((*_BOUNDS_S, "+Inf"), self.counts, strict=True):
            total += count
            found.append(f"{name}_bucket{_labels((*labels, ('le', str(bound))))} {total}")
        found.append(f"{name}_sum{_labels(labels)} {self.sum:.6f}")
        found.append(f"{name}_count{_labels(labels)} {total}")
        return found


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    inner = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels)
    return f"{{{inner}}}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
