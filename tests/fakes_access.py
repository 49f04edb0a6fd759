"""Siblings of what rights and cards stand on: a clock, a gate, a door, a reader's cable."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

from edge.identity.credentials import Credential, Evidence
from edge.identity.rights import Permitted
from edge.link.wire import Event
from edge.values import Deny, Grant, Reason

ENTER = 28
_EVENT = struct.Struct("@llHHi")
_CODES = {digit: 2 + i for i, digit in enumerate("1234567890")}


class FakeClock:
    """Port Clock. `kept` has every call of `keep`."""

    def __init__(self, now: str = "2026-06-01T10:00:00", trusted: bool = True) -> None:
        self.now = datetime.fromisoformat(now).replace(tzinfo=timezone.utc)
        self.trusted = trusted
        self.kept: list[bool] = []

    def now_utc(self) -> datetime:
        return self.now

    def keep(self, at_once: bool = False) -> None:
        self.kept.append(at_once)


class FakeGate:
    """Rights and cards in memory. `told` has who failed and who succeeded, in order."""

    def __init__(self, *opens: Evidence, cards: dict[str, str] | None = None) -> None:
        self.opens = frozenset(opens)
        self.cards = cards or {}
        self.refused: dict[str, Reason] = {}  # subject -> why it may not enter
        self.denied: dict[str, Reason] = {}  # card -> why it does not count
        self.extended: set[str] = set()
        self.failing: set[str] = set()  # subjects whose attempts fail too often
        self.told: list[tuple[str, str]] = []

    def enough(self) -> frozenset[Evidence]:
        return self.opens

    def permitted(self, subject: str) -> Permitted | Deny:
        if subject in self.refused:
            return Deny(self.refused[subject])
        return Permitted(subject in self.extended)

    def claimed(self, card: str) -> Credential | Deny:
        if card in self.denied:
            return Deny(self.denied[card])
        if card not in self.cards:
            return Deny(Reason.UNAUTHORIZED)
        return Credential(card.encode(), self.cards[card])

    def blocked(self, subject: str) -> bool:
        return subject in self.failing

    def failed(self, subject: str) -> None:
        self.told.append(("failed", subject))

    def succeeded(self, subject: str) -> None:
        self.told.append(("succeeded", subject))


class FakeDoor:
    """Grants as they were asked for: (grant, valid_until). Answers at once, with `answer` if set."""

    def __init__(self) -> None:
        self.asked: list[tuple[Grant, float]] = []
        self.identified: list[float] = []  # s, each time lamp and sounder were asked for
        self.answer: Deny | None = None
        self.unwilling: Deny | None = None  # what it says before it is asked

    @property
    def refusal(self) -> Deny | None:
        return self.unwilling

    def identify(self, for_s: float) -> None:
        self.identified.append(for_s)

    def grant(self, grant: Grant, valid_until: float, answer: Callable[[Grant | Deny], None]) -> None:
        self.asked.append((grant, valid_until))
        answer(self.answer or grant)


class FakeRecord:
    """Events as they were recorded, with their details. `hold` keeps back what waits for the disk."""

    def __init__(self) -> None:
        self.told: list[Event] = []
        self.details: list[bytes | None] = []
        self.hold = False
        self.held: list[Callable[[], None]] = []
        self.by: list[float] = []

    def post(self, event: Event, details: bytes | None = None) -> None:
        self.told.append(event)
        self.details.append(details)

    def post_then(self, event: Event, details: bytes | None, then: Callable[[], None], by: float) -> None:
        self.post(event, details)
        self.held.append(then)
        self.by.append(by)
        if not self.hold:
            self.let_go()

    def let_go(self) -> None:
        held, self.held = self.held, []
        for then in held:
            then()


class FakeWedge:
    """A keyboard wedge's cable: a pipe in a device's place, into which cards are typed."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._pipe = -1

    def plug(self) -> None:
        """Both ends are opened, so that a daemon may open and close its end at will."""
        self._pipe = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)

    def unplug(self) -> None:
        os.close(self._pipe)
        self._pipe = -1

    def type(self, number: str) -> None:
        codes = [*(_CODES[digit] for digit in number), ENTER]
        self.send([(1, code, value) for code in codes for value in (1, 0)])

    def send(self, events: list[tuple[int, int, int]]) -> None:
        os.write(self._pipe, b"".join(_EVENT.pack(0, 0, *event) for event in events))

    def send_raw(self, content: bytes) -> None:
        os.write(self._pipe, content)
