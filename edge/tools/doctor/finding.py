"""What a check says. Pure.

`ok`: as it should be. `note`: a fact to know, or something that can't be told here; nobody need act.
`warn`: the door works, and somebody should look after it. `fail`: something that is configured does not
work, or will let the door down. A `warn` and a `fail` say what to do about it, in one line.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "note", "warn", "fail"]
_EXIT: dict[Verdict, int] = {"ok": 0, "note": 0, "warn": 1, "fail": 2}


@dataclass(frozen=True, slots=True)
class Said:
    """A check's answer."""

    verdict: Verdict
    detail: str
    cure: str = ""  # what to do; empty: nothing


@dataclass(frozen=True, slots=True)
class Finding:
    """The same, with the part it is about."""

    part: str
    verdict: Verdict
    detail: str
    cure: str = ""

    def lines(self) -> list[str]:
        """Readable text."""
        told = [f"{self.verdict:5}{self.part:13}{self.detail}"]
        return [*told, f"{'':18}-> {self.cure}"] if self.cure else told


def ok(detail: str) -> Said:
    """As it should be."""
    return Said("ok", detail)


def note(detail: str) -> Said:
    """A fact, or what can't be told here."""
    return Said("note", detail)


def warn(detail: str, cure: str) -> Said:
    """Somebody should look after it."""
    return Said("warn", detail, cure)


def fail(detail: str, cure: str) -> Said:
    """It does not work."""
    return Said("fail", detail, cure)


def exit_code(findings: Iterable[Finding]) -> int:
    """0: nothing to do; 1: warnings; 2: faults; 78: one of them is the configuration (EX_CONFIG)."""
    found = list(findings)
    if any(finding.part == "config" and finding.verdict == "fail" for finding in found):
        return 78
    return max((_EXIT[finding.verdict] for finding in found), default=0)
