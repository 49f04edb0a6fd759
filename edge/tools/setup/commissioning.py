"""The commissioning report: what was tried at a door, what was not, and what it was tried with. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edge.tools.setup.outcome import Outcome, Result

_WIDTH = 100
_HEADS: tuple[tuple[Result, str], ...] = (
    ("passed", "TESTED, AND AS IT SHOULD BE"),
    ("failed", "TESTED, AND NOT AS IT SHOULD BE"),
    ("not tested", "NOT TESTED"),
)
UNTOLD = (
    "What the lock does without power: cut it and see. Free egress when this box is dead: try the handle.",
    "False matches at this door: the FMR is the model's, measured on other people (models/cards).",
    "Weather, night, winter clothes: only the light of this hour was seen.",
)


@dataclass(frozen=True, slots=True)
class Commissioning:
    """All that the report says."""

    site: str
    door: str
    at: str  # UTC, and whether the clock is to be believed
    by: str  # the installer's name; empty: not given
    outcomes: Sequence[Outcome]
    wiring: Sequence[tuple[str, str]]
    facts: Sequence[tuple[str, str]]  # versions, hashes
    untold: Sequence[str] = UNTOLD

    @property
    def flawless(self) -> bool:
        """Whether nothing that was tried failed; what was not tried says nothing."""
        return all(outcome.result != "failed" for outcome in self.outcomes)

    def text(self) -> str:
        """The report, a page of plain text."""
        head = f"Commissioning report: door {self.door} of site {self.site}"
        lines = [head, "=" * len(head), f"at {self.at}" + (f", by {self.by}" if self.by else "")]
        for result, title in _HEADS:
            rows = [(o.part, o.words) for o in self.outcomes if o.result == result]
            lines += ["", title, *(_rows(rows) if rows else ["  nothing"])]
        lines += ["", "WIRING", *_rows(self.wiring)]
        lines += ["", "WITH", *_rows(self.facts)]
        lines += ["", "WHAT THIS REPORT DOES NOT SAY", *_rows(("-", words) for words in self.untold)]
        return "\n".join([*lines, ""])


def _rows(rows: Iterable[tuple[str, str]]) -> list[str]:
    """Name and words in two columns."""
    found = list(rows)
    wide = max((len(name) for name, _ in found), default=0)
    lines = []
    for name, words in found:
        begin = f"  {name:{wide}}  "
        lines += textwrap.wrap(
            words,
            _WIDTH,
            initial_indent=begin,
            subsequent_indent=" " * len(begin),
            break_on_hyphens=False,
            break_long_words=False,
        ) or [begin.rstrip()]
    return lines
