"""What is right behind a power cut of a door's record (`guest/recording.py`), by what the host was told.

`kept`: the door was asked, its event is on the disk. `late`: it was asked, the disk had had its 200 ms.
`sent`: number and digest of what the broker has.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from power_cuts import Life

PATIENCE_MS = 200
SLOW_MS = 1000  # from a card to the line: its grant is stale then
MARKED_WITHIN = 200  # records: the largest commit, with a mark for each; behind it, what came during it
_MARK = re.compile(r"number (\d+):")
_BY_SIZE = "the ledger had more than"


@dataclass(frozen=True)
class Record:
    """One record of the ledger, as it was found."""

    seq: int
    digest: str
    id: str
    kind: str
    detail: str


class Judge:
    """Judges cut after cut; `wrong` in words, `counts` of how much of what there was."""

    def __init__(self, lives: Sequence[Life]) -> None:
        """All lives but the last are followed by one that says what was left of them."""
        self.wrong: list[str] = []
        self.counts: Counter[str] = Counter()
        self._digests: dict[int, str] = {}  # of every number that was ever told
        self._sent: set[int] = set()
        for number, (before, after) in enumerate(itertools.pairwise(lives), 1):
            records = [Record(*row) for row in after.start["records"]]
            found = [
                *self._chain(after, records),
                *self._acknowledged(before, records),
                *self._unsynced(before, records),
                *self._delivered(before, after, records),
            ]
            self.wrong += [f"cut {number}: {what}" for what in found]
        said = [fact for life in lives[:-1] for fact in life.said]
        self.longest_ms = max((fact["ms"] for fact in said if "ms" in fact), default=0)
        self.longest_exit_ms = max((fact["exit_ms"] for fact in said if "exit_ms" in fact), default=0)

    def _chain(self, after: Life, records: Sequence[Record]) -> list[str]:
        """It is whole, and the door's own recorder finds nothing to say of it."""
        found = [f"{what}: {after.start[what]}" for what in ("flaw", "fault", "lacks") if after.start[what]]
        numbers = [record.seq for record in records]
        if numbers and numbers != list(range(numbers[0], numbers[0] + len(numbers))):
            found.append(f"a hole in the numbers from {numbers[0]} to {numbers[-1]}")
        gaps = [record.detail for record in records if record.kind == "EventsDropped"]
        self.counts["records"] += len(records)
        self.counts["prunes"] += sum(words.startswith(_BY_SIZE) for words in gaps)
        return found + [words for words in gaps if not words.startswith(_BY_SIZE)]

    def _acknowledged(self, before: Life, records: Sequence[Record]) -> list[str]:
        """What the door was asked for with the disk's word is there, in that order."""
        at = {record.id: record.seq for record in records}
        kept = [fact["kept"] for fact in before.said if "kept" in fact]
        there = [at[which] for which in kept if which in at]
        self.counts["kept"] += len(kept)
        found = [f"{fact['fault']}, {fact['lost']} lost" for fact in before.said if "fault" in fact][:1]
        if len(there) < len(kept):
            found.append(f"{len(kept) - len(there)} of {len(kept)} acknowledged events are missing")
        return found + (["acknowledged in another order"] if there != sorted(there) else [])

    def _unsynced(self, before: Life, records: Sequence[Record]) -> list[str]:
        """What went on without the disk did so after its time only, and says so where it is there."""
        at = {record.id: record.seq for record in records}
        told = [record.detail for record in records if record.kind == "EventUnsynced"]
        marked = {int(match[1]) for match in map(_MARK.match, told) if match}
        late = [fact for fact in before.said if "late" in fact]
        there = [at[fact["late"]] for fact in late if fact["late"] in at]
        self.counts["late"] += len(late)
        self.counts["late_missing"] += len(late) - len(there)
        settled = max(at.values(), default=0) - MARKED_WITHIN
        unmarked = [seq for seq in there if seq <= settled and seq not in marked]
        soon = [fact["ms"] for fact in late if fact["ms"] < PATIENCE_MS - 1]
        return [f"number {seq} is not marked unsynced" for seq in unmarked] + [
            f"asked after {ms} ms without the disk" for ms in soon
        ]

    def _delivered(self, before: Life, after: Life, records: Sequence[Record]) -> list[str]:
        """What was sent is there, under its number; what counts as delivered was sent."""
        sent = {fact["sent"]: fact["digest"] for fact in before.said if "sent" in fact}
        held = {record.seq: record.digest for record in records}
        self._sent |= sent.keys()
        self.counts["sent"] += len(sent)
        found = [
            f"number {seq} is used twice"
            for seq, digest in itertools.chain(sent.items(), held.items())
            if self._digests.setdefault(seq, digest) != digest
        ]
        cursor = after.start["cursor"]
        gone = [seq for seq in sent if seq >= min(held, default=0) and seq not in held]
        unsent = [seq for seq in held if seq <= cursor and seq not in self._sent]
        found += [f"{len(gone)} sent events are missing"] if gone else []
        return found + ([f"{len(unsent)} events count as delivered and were not sent"] if unsent else [])


def wrong_on_disk(case: dict) -> list[str]:
    """What a door did wrong whose disk was not as it should be (`guest/disk_cases.py`), in words."""
    opened = [*case["visits_ms"], case["exit_ms"]]
    well, restarted = case["case"] == "is well", case["left_behind"] > 0
    told = case["told_lost"] == case["lost"] or restarted  # which forgets: only log and status had it
    rules = (
        (None not in opened and max(ms or 0 for ms in opened) < SLOW_MS, f"opened after {opened} ms"),
        (case["stranger"] is None, "a stranger was let in"),
        (case["flaw"] is None, f"chain: {case['flaw']}"),
        (
            case["missing"] == case["lost"] + case["left_behind"] and told,
            "what is missing is not what was told",
        ),
        (case["reused"] <= 0, f"{case['reused']} numbers are used again"),
        ((case["fault"] is None) == well, f"fault: {case['fault']}"),
        (all(count == 1 for count in case["log"].values()), f"log: {case['log']}"),
    )
    return [words for holds, words in rules if not holds]


def disk_figure(case: dict) -> str:
    """The case in words."""
    waits = [-1 if ms is None else ms for ms in case["visits_ms"]]
    return (
        f"opened after {min(waits)} to {max(waits)} ms, exit button {case['exit_ms']} ms; "
        f"fault: {str(case['fault']).split(': ')[-1]}; {case['posted']} events, {case['lost']} lost, "
        f"{case['told_lost']} told as lost, {case['left_behind']} left behind by a restart; "
        f"{case['unsynced']} grants marked unsynced"
    )
