"""A keyboard wedge: a card reader that types the card's number and Enter. Pure.

Codes are those of <linux/input-event-codes.h>. A wedge reader is a keyboard to the kernel, so
anybody's keyboard is a wedge reader too: the number is a claim, no proof.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge.door.wiegand import Refused

EV_KEY, DOWN = 1, 1
_ENTER = {28, 96}  # Enter, and that of the keypad
_SHIFT = {42, 54}  # some readers hold it for A-F
_KEYS: dict[int, str] = {
    **{2 + i: digit for i, digit in enumerate("1234567890")},
    **{16 + i: letter for i, letter in enumerate("QWERTYUIOP")},
    **{30 + i: letter for i, letter in enumerate("ASDFGHJKL")},
    **{44 + i: letter for i, letter in enumerate("ZXCVBNM")},
    **{71 + i: digit for i, digit in enumerate("789")},
    **{75 + i: digit for i, digit in enumerate("456")},
    **{79 + i: digit for i, digit in enumerate("1230")},
}
MAX_KEYS = 32
PAUSE_S = 0.5  # a reader types a number in some 100 ms; after a pause something else begins


@dataclass(frozen=True, slots=True)
class Typed:
    """What was typed before Enter: 1 to 32 of 0-9 and A-Z."""

    text: str


@dataclass(frozen=True, slots=True)
class Typing:
    """The number so far. `last_at`: s of any clock that runs evenly; `spoilt`: why it is none."""

    text: str = ""
    last_at: float = float("-inf")
    spoilt: str = ""

    def key(self, at: float, kind: int, code: int, value: int) -> tuple[Typing, Typed | Refused | None]:
        """One input event (type, code, value), and what it completes. Releases and repeats say nothing."""
        if kind != EV_KEY or value != DOWN or code in _SHIFT:
            return self, None
        begun = self if 0 <= at - self.last_at < PAUSE_S else Typing()
        cut_off = None
        if begun is not self and self.text:
            cut_off = Refused("expected Enter after a number, got a pause")
        if code in _ENTER:
            return Typing(), cut_off or begun._entered()
        if code not in _KEYS:
            return Typing("", at, f"expected 0-9 and A-Z, got key {code}"), cut_off
        if len(begun.text) >= MAX_KEYS:
            return Typing(begun.text, at, f"expected at most {MAX_KEYS} keys"), cut_off
        return Typing(begun.text + _KEYS[code], at, begun.spoilt), cut_off

    def _entered(self) -> Typed | Refused | None:
        if self.spoilt:
            return Refused(self.spoilt)
        return Typed(self.text) if self.text else None
