"""Wiegand frames out of (time, line) edges. Pure.

A reader pulls line 0 low for a zero and line 1 for a one, some 50 us each, at a steady pace of 0.2
to 20 ms. The pace is checked too: parity alone lets one in four frames through that have lost a bit
and gained a noise pulse. Nothing here is secret: who taps the lines, or has a reader of his own, can
copy any card, so a Wiegand card alone proves little.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter
from statistics import median

from edge.ports import Edge

SAME_PULSE_S = 0.0001  # an edge on the same line this soon is the same pulse ringing
FRAME_END_S = 0.025  # no edge for so long: the frame has ended
_SLOW, _FAST = 1.6, 0.6  # an interval times the frame's median: a lost bit makes 2, a noise pulse < 0.6
MAX_EDGES = 128  # of one frame; more is noise, and need not be kept
_NUMBERS = 1 << 32  # an edge's number has so many values


@dataclass(frozen=True, slots=True)
class Card:
    """What the card says."""

    facility: int
    number: int
    bits: int  # 26, 34 or 37

    @property
    def format(self) -> str:
        """`wiegand26` and so on."""
        return f"wiegand{self.bits}"

    @property
    def text(self) -> str:
        """`facility-number`."""
        return f"{self.facility}-{self.number}"


@dataclass(frozen=True, slots=True)
class Refused:
    """What came from the lines is no card."""

    reason: str


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where things stand in a frame: half-open ranges of bits, the first bit sent is 0."""

    facility: slice
    number: slice
    even: slice  # an even number of ones, the first bit among them
    odd: slice  # an odd number of ones, the last bit among them


LAYOUTS = {
    26: _Layout(slice(1, 9), slice(9, 25), slice(0, 13), slice(13, 26)),  # H10301
    34: _Layout(slice(1, 17), slice(17, 33), slice(0, 17), slice(17, 34)),  # H10306
    37: _Layout(slice(1, 17), slice(17, 36), slice(0, 19), slice(18, 37)),  # H10304: halves share bit 18
}


@dataclass(frozen=True, slots=True)
class Frame:
    """The edges of a frame that may go on, as they were told. Of more than MAX_EDGES the rest is not kept."""

    edges: tuple[Edge, ...] = ()
    last: Edge | None = None  # the latest that was told, of this frame or the one before
    before: int | None = None  # the number of the last edge of the frame before

    def add(self, edge: Edge) -> tuple[Frame, Frame | None]:
        """The frame with one more edge, and the one before if that has ended."""
        if self.edges and self.last and not abs(edge.at - self.last.at) < FRAME_END_S:
            return self.end().add(edge)[0], self
        latest = self.last if self.edges and self.last and edge.at < self.last.at else edge
        return Frame((*self.edges, edge)[:MAX_EDGES], latest, self.before), None

    def end(self) -> Frame:
        """What follows this one."""
        return Frame(last=self.last, before=self.last.number if self.last else None)


def decode(frame: Frame, accepted: Collection[int]) -> Card | Refused:
    """One frame's card. `accepted`: the lengths in bits that are cards.

    With one length half a frame is never a card; with several, one in four frames that were cut
    short to another accepted length has that one's parity by chance.
    """
    edges = sorted(frame.edges, key=attrgetter("at"))  # two lines' edges may come out of order
    numbers = [edge.number for edge in edges]
    if frame.before is not None:
        numbers.insert(0, frame.before)
    if any((later - earlier) % _NUMBERS != 1 for earlier, later in pairwise(numbers)):
        return Refused("edges were lost on the way from the lines")
    return _read(without_ringing(edges), accepted)


def _read(kept: list[Edge], accepted: Collection[int]) -> Card | Refused:
    if len(kept) not in accepted or len(kept) not in LAYOUTS:
        lengths = ", ".join(str(bits) for bits in sorted(accepted))
        return Refused(f"expected {lengths} bits, got {len(kept)}")
    gaps = [later.at - earlier.at for earlier, later in pairwise(kept)]
    middle = median(gaps)
    if not all(_FAST * middle < gap < _SLOW * middle for gap in gaps):
        return Refused(
            f"expected even pulses {middle * 1000:.2f} ms apart, "
            f"got {min(gaps) * 1000:.2f} to {max(gaps) * 1000:.2f} ms"
        )
    return _card([edge.line for edge in kept])


def _card(bits: list[int]) -> Card | Refused:
    layout = LAYOUTS[len(bits)]
    if sum(bits[layout.even]) % 2 or not sum(bits[layout.odd]) % 2:
        return Refused("wrong parity")
    return Card(_value(bits[layout.facility]), _value(bits[layout.number]), len(bits))


def _value(bits: list[int]) -> int:
    return int("".join(map(str, bits)), 2)


def without_ringing(edges: Sequence[Edge]) -> list[Edge]:
    """The first edge of each pulse. One on the *other* line is kept: which is true is not known."""
    kept: list[Edge] = []
    for edge in edges:
        if not (kept and kept[-1].line == edge.line and 0 <= edge.at - kept[-1].at < SAME_PULSE_S):
            kept.append(edge)
    return kept
