"""The order of work on a device, and a check for memory used without an order (a data race)."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

HOST = 0
"""The host's place among the handles of streams: the work that it has seen done."""

Clock = dict[int, int]
"""Number of pieces of work of each stream that are known to come before."""

Range = tuple[int, int]
"""Address and length."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A piece of work: its number in its stream, and all that comes before."""

    stream: int
    number: int
    clock: Clock

    def comes_before(self, clock: Clock) -> bool:
        """Tell whether work with this clock comes after this one."""
        return clock.get(self.stream, 0) >= self.number


@dataclass(frozen=True, slots=True)
class _Use:
    moment: Moment
    first: int
    end: int
    writes: bool


class Order:
    """Streams, each in order, and the waits between them."""

    def __init__(self) -> None:
        self._clocks: dict[int, Clock] = defaultdict(dict)
        self._uses: list[_Use] = []

    def clock(self, stream: int) -> Clock:
        """Return all that comes before the next work of a stream."""
        return self._clocks[stream]

    def wait(self, before: int, after: int) -> None:
        """Let further work of a stream, or ``HOST``, come after all work of another one."""
        known = self._clocks[after]
        for stream, number in self._clocks[before].items():
            known[stream] = max(known.get(stream, 0), number)

    def put(self, stream: int, reads: list[Range], writes: list[Range]) -> Moment:
        """Add a piece of work.

        Raises:
            AssertionError: It uses memory that other work may be using, and one of the two writes.
        """
        self.wait(HOST, stream)  # the host submits it
        clock = self._clocks[stream]
        clock[stream] = clock.get(stream, 0) + 1
        moment = Moment(stream, clock[stream], dict(clock))
        for ranges, are_written in ((reads, False), (writes, True)):
            for address, length in ranges:
                self._use(_Use(moment, address, address + length, are_written))
        return moment

    def is_idle(self, address: int, length: int) -> bool:
        """Tell whether the host has seen all work done that uses some memory."""
        seen = self._clocks[HOST]
        return not any(
            use.first < address + length and address < use.end and not use.moment.comes_before(seen)
            for use in self._uses
        )

    def _use(self, new: _Use) -> None:
        kept = []
        for old in self._uses:
            apart = new.end <= old.first or old.end <= new.first
            after = old.moment.comes_before(new.moment.clock)
            if not apart and not after and (new.writes or old.writes):
                raise AssertionError(
                    f"stream {new.moment.stream} {'writes' if new.writes else 'reads'} what stream "
                    f"{old.moment.stream} {'writes' if old.writes else 'reads'}, and nothing "
                    "orders the two"
                )
            covered = new.writes and new.first <= old.first and old.end <= new.end
            if not (covered and after):
                kept.append(old)
        self._uses = [*kept, new]
