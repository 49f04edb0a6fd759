"""What an admin's machine keeps of a site. Pure; each record is sealed on its own by `records`."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edge.config import Id
from edge.identity.credentials import card_id

Moment = str  # as in rights.yaml: 2026-12-31 or 2026-12-31T12:00, by the site's time zone
Utc = str  # RFC 3339


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base: strict and frozen."""


class Limits(_Record, frozen=True):
    """Where and when, with the keys of `rights.yaml`."""

    doors: list[Id] | None = None
    schedule: Id | None = None
    from_: Moment | None = msgspec.field(name="from", default=None)
    until: Moment | None = None


class Card(_Record, frozen=True):
    """A card that was given out: no number, only the HMAC-SHA-256 under the site's card key."""

    digest: Annotated[bytes, Meta(min_length=32, max_length=32)]
    enabled: bool = True
    expires_at: int | None = None  # s since 1970

    @property
    def id(self) -> str:
        """What an admin calls it by, as `credentials.Credential.id`."""
        return card_id(self.digest)


class PersonTemplate(_Record, frozen=True):
    """One template of a person."""

    vector: bytes  # (D,) float16 little-endian, unit L2 norm before rounding
    model: Id
    enrolled_at_utc: Utc
    photo: Annotated[str, Meta(pattern="^([0-9a-f]{64})?$")] = ""  # SHA-256 of the file; "": a camera
    quality: dict[str, float] = {}  # the gate's figures, units as in values.Quality


class Person(Limits, frozen=True):
    """One person. `subject` is what doors and logs know; all else stays on the admin's machine."""

    subject: Id = ""
    name: str = ""
    groups: list[Id] = []  # none: the person's own limits alone
    enabled: bool = True
    extended_release: bool = False
    consent: str = ""  # reference of the consent
    reason: str = ""  # why the person is enrolled
    retain_until: Moment | None = None  # to be removed from then on
    added_at_utc: Utc = ""
    templates: list[PersonTemplate] = []
    cards: list[Card] = []


class Group(Limits, frozen=True):
    """Limits that several people share."""


class Period(_Record, frozen=True):
    """A time of day on some days, as in `rights.yaml`."""

    days: list[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun", "holiday"]]
    from_: str = msgspec.field(name="from")
    until: str


class Schedule(_Record, frozen=True):
    """Periods of a week."""

    periods: list[Period]


class Door(_Record, frozen=True):
    """A door that joined the site."""

    door: Id
    added_at_utc: Utc
    key_encryption_key: bytes  # 32 bytes; the site's keys reach the door sealed with it
    public_key: dict[str, object]  # securesystemslib's Key.to_dict, and its keyid under "keyid"
    certificate_serial: int
    face_only: bool = True  # a face alone opens it: what expected FPIR is about
    retired_at_utc: Utc | None = None


class Site(_Record, frozen=True):
    """What there is once."""

    site: Id
    time_zone: str
    broker_host: str
    broker_port: int
    model: Id  # embedder of all templates
    dimension: int
    site_key: bytes  # 32 bytes; what is published is sealed with it
    card_key: bytes  # 32 bytes; cards are hashed with it
    holidays: list[str] = []
    others: list[Id] | None = None
    free_access: list[Limits] = []
    mode: Literal["normal", "lockdown"] = "normal"
    fresh_for_s: int = 7 * 86400  # how long a door believes what it has without hearing again
    max_fpir: float = 1e-3
    tries_per_person_per_day: float = 4.0
    second_signer: bool = False  # a push that needs --accept needs another key's holder too


class Publication(_Record, frozen=True):
    """One version that was signed: enough to publish its content again."""

    version: int  # the snapshot's
    at_utc: Utc
    digest: str  # of the content: SHA-256 over names and digests of all targets
    targets: dict[str, str]  # target name -> SHA-256 hex
    subjects: int
    templates: int
    signers: list[str]  # key ids
    accepted_by: str = ""
    note: str = ""


def publication_id(version: int) -> str:
    """Of the record; sorts as the number does."""
    return f"{version:010d}"


class Revoked(_Record, frozen=True):
    """A certificate that counts no more; its serial number, in decimal digits, is the record's id."""

    door: str  # or admin
    at_utc: Utc


class Removal(_Record, frozen=True):
    """A person who was removed; the receipt is due when every door has `version` in force."""

    subject: Id
    at_utc: Utc
    version: int | None = None  # the first published version without the person
    doors: dict[Id, Utc] = {}  # who confirmed when
    added_at_utc: Utc = ""  # when the person was: doors retired before never had him


class Accepted(_Record, frozen=True):
    """What somebody took upon himself at a push: two people who look alike, or a high FPIR."""

    limit: float  # holds down to this distance (L2), or up to this FPIR (0..1)
    by: str
    at_utc: Utc


class Likeness(_Record, frozen=True):
    """Two subjects whose nearest templates are nearer than the door's threshold."""

    one: Id
    other: Id
    distance: float  # L2


class Checked(_Record, frozen=True):
    """What was compared with what, so that the next push compares only who has changed."""

    model: Id
    revisions: dict[Id, int]  # of each person's record when it was compared with all others
    pairs: list[Likeness]  # all that were found
    count: int  # of pairs, also of those too many to be kept


class Seen(_Record, frozen=True):
    """The highest that a door has reported: none of it may go back."""

    door: Id
    at_utc: Utc  # of the newest report
    starts: int  # the count in its epoch
    seq: int  # of its last event
    version: int  # of its gallery; 0: none


class Ordered(_Record, frozen=True):
    """The last order that a key signed; the next one's counter is above it, whatever the clock says."""

    keyid: str
    counter: int
    at_utc: Utc
