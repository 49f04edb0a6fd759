"""The lines of the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    least: str
    figure: str
    right: bool


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    cells = [(row.what, row.least, row.figure, "pass" if row.right else "FAIL") for row in rows]
    head = [("what", "at least", "result", ""), ("---",) * 4]
    return "\n".join(f"| {' | '.join(line)} |" for line in head + cells)
