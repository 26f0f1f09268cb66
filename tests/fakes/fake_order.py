"""Which work of a device comes after which, and memory that two use with nothing to order them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

HOST = 0
"""Stands beside the handles of streams: what the host has seen done."""

Clock = dict[int, int]
"""How many pieces of work of each stream are known to come before."""

Range = tuple[int, int]
"""Address and length."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One piece of work: the number of it in its stream, and all that comes before."""

    stream: int
    number: int
    clock: Clock

    def comes_before(self, clock: Clock) -> bool:
        """Whether whoever has this clock comes after this."""
        return clock.get(self.stream, 0) >= self.number


@dataclass(frozen=True, slots=True)
class _Use:
    moment: Moment
    first: int
    end: int
    writes: bool


class Order:
    """Streams, each in order, and what was made to wait for what."""

    def __init__(self) -> None:
        self._clocks: dict[int, Clock] = defaultdict(dict)
        self._uses: list[_Use] = []

    def clock(self, stream: int) -> Clock:
        """All that comes before what follows in a stream."""
        return self._clocks[stream]

    def wait(self, before: int, after: int) -> None:
        """Let what follows in a stream, or ``HOST``, come after all that is in another one."""
        known = self._clocks[after]
        for stream, number in self._clocks[before].items():
            known[stream] = max(known.get(stream, 0), number)

    def put(self, stream: int, reads: list[Range], writes: list[Range]) -> Moment:
        """Add a piece of work.

        Raises:
            AssertionError: It uses memory that other work may be using, and one of the two writes.
        """
        self.wait(HOST, stream)  # it is the host who puts it there
        clock = self._clocks[stream]
        clock[stream] = clock.get(stream, 0) + 1
        moment = Moment(stream, clock[stream], dict(clock))
        for ranges, are_written in ((reads, False), (writes, True)):
            for address, length in ranges:
                self._use(_Use(moment, address, address + length, are_written))
        return moment

    def is_idle(self, address: int, length: int) -> bool:
        """Whether the host has seen all work done that uses some memory."""
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
