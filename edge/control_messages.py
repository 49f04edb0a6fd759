"""What a command and the daemon say to each other over the control socket. Pure."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from edge.desk import CardChange, CardRow, SubjectRow
from edge.doorman import DoorAction
from edge.identity.enrol import EnrolmentReport
from edge.tuning import TuneRequest, TuneState


class Enrol(msgspec.Struct, tag=True, frozen=True):
    """Enrol picture files."""

    subject: str
    photos: list[tuple[str, bytes]]
    force_lookalike: bool


class EnrolCamera(msgspec.Struct, tag=True, frozen=True):
    """Enrol from the door's camera."""

    subject: str
    force_lookalike: bool


class Subjects(msgspec.Struct, tag=True, frozen=True):
    """List the gallery."""


class Remove(msgspec.Struct, tag=True, frozen=True):
    """Forget a subject."""

    subject: str


class Export(msgspec.Struct, tag=True, frozen=True):
    """The gallery as a file."""

    passphrase: str | None


class Import(msgspec.Struct, tag=True, frozen=True):
    """Templates from a file."""

    data: bytes
    passphrase: str | None


class DoorOrder(msgspec.Struct, tag=True, frozen=True):
    """Move the door."""

    action: DoorAction
    minutes: float  # of `open`


class Cards(msgspec.Struct, tag=True, frozen=True):
    """List the cards."""


class AddCard(msgspec.Struct, tag=True, frozen=True):
    """Give a card to a subject."""

    subject: Annotated[str, Meta(max_length=64)]
    card: Annotated[str, Meta(max_length=64)]
    enabled: bool
    expires_at: Annotated[int, Meta(ge=0, le=2**35)] | None


class ChangeCard(msgspec.Struct, tag=True, frozen=True):
    """Remove, enable or disable a card."""

    card_id: Annotated[str, Meta(max_length=64)]
    change: CardChange


class GetStatus(msgspec.Struct, tag=True, frozen=True):
    """What the daemon is doing."""


class Reload(msgspec.Struct, tag=True, frozen=True):
    """Read the configuration again."""


class Sync(msgspec.Struct, tag=True, frozen=True):
    """Ask the site for news."""

    folder: Annotated[str, Meta(max_length=4096)] | None  # instead of the broker


class Tune(msgspec.Struct, tag=True, frozen=True):
    """Tune presentation-attack detection."""

    request: TuneRequest


class Told(msgspec.Struct, tag=True, frozen=True):
    """What there is of a tune."""

    state: TuneState


class Failed(msgspec.Struct, tag=True, frozen=True):
    """The answer when something was refused: the error's class and its line."""

    kind: str
    message: str


class Report(msgspec.Struct, tag=True, frozen=True):
    """An enrolment's report."""

    report: EnrolmentReport


class Rows(msgspec.Struct, tag=True, frozen=True):
    """The gallery's subjects."""

    rows: list[SubjectRow]


class CardRows(msgspec.Struct, tag=True, frozen=True):
    """Cards that were given out."""

    rows: list[CardRow]


class Count(msgspec.Struct, tag=True, frozen=True):
    """How many templates came or went."""

    count: int


class Obeyed(msgspec.Struct, tag=True, frozen=True):
    """Whether the door did it."""

    obeyed: bool


class Blob(msgspec.Struct, tag=True, frozen=True):
    """A file's content, or JSON."""

    data: bytes


Request: TypeAlias = (
    Enrol
    | EnrolCamera
    | Subjects
    | Remove
    | Export
    | Import
    | Cards
    | AddCard
    | ChangeCard
    | DoorOrder
    | GetStatus
    | Reload
    | Sync
    | Tune
)
Answer: TypeAlias = Failed | Report | Rows | CardRows | Count | Obeyed | Blob | Told
