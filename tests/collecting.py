"""A door's events as it numbers them, and a site's roster, for tests of the collector."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from pathlib import Path

import msgspec
from securesystemslib.signer import CryptoSigner
from signing import AT, NOW, an_attestation, attested, in_s, new_signer

from edge.admin.collector import KnownDoor
from edge.admin.intake import Intake
from edge.admin.store import EventStore, Finding
from edge.config import MqttConfig
from edge.link import wire
from edge.link.stamp import uuid7

SETTING = wire.Setting(0.7, "facenet-512", 3, simulation=True)


class Numbered:
    """A door's chain: `next` makes an event, `sent` has the bytes of all of them, by number."""

    def __init__(self, head: wire.ChainHead = wire.GENESIS, grain: int = 0) -> None:
        self.head = head
        self.sent: dict[int, bytes] = {}
        self._grain = grain  # tells chains apart that have the same numbers

    def next(self, detail: str = "") -> bytes:
        number = self.head.seq + 1
        stamp = wire.Stamp(uuid7(1_790_000_000_000 + number, bytes([self._grain] * 10)), AT)
        return self._add(wire.notice("ExitRequested", detail or f"press {number}", stamp, SETTING))

    def some(self, count: int) -> list[bytes]:
        return [self.next() for _ in range(count)]

    def drop(self, first: int, last: int) -> bytes:
        """An EventsDropped, as bytes: it names what the door no longer has."""
        plain = msgspec.json.decode(self.next())
        plain |= {"kind": "EventsDropped", "first": first, "last": last, "count": last - first + 1}
        payload = msgspec.json.encode(plain)
        self.head = wire.ChainHead(self.head.seq, hashlib.sha256(payload).hexdigest())
        self.sent[self.head.seq] = payload
        return payload

    def _add(self, event: wire.Event) -> bytes:
        payload, self.head = wire.number(event, self.head)
        self.sent[self.head.seq] = payload
        return payload


class FixedRoster:
    """Roster: doors that a test adds. Sibling of SiteRoster and FolderRoster."""

    def __init__(self, port: int = 1, **doors: CryptoSigner) -> None:
        self.site = "hq"
        self.signer = new_signer()
        self.mqtt = MqttConfig(host="127.0.0.1", port=port)
        self.known = {name: known(signer) for name, signer in doors.items()}

    def doors(self) -> dict[str, KnownDoor]:
        return dict(self.known)


def known(signer: CryptoSigner, retired: bool = False) -> KnownDoor:
    key = signer.public_key
    return KnownDoor({key.keyid: key}, "2026-11-01T00:00:00.000Z", retired)


def rows(store: EventStore, door: str = "front") -> list[tuple[int, int, bytes]]:
    """(chain, seq, payload) of a door, by chain and number."""
    query = "SELECT chain, seq, payload FROM event WHERE door = ? ORDER BY chain, seq"
    return store.connection.execute(query, (door,)).fetchall()


def gaps(store: EventStore) -> list[tuple[int, int, str | None]]:
    return store.connection.execute("SELECT first, last, why FROM gap ORDER BY chain, first").fetchall()


def findings(path: Path) -> list[tuple[str, str]]:
    with EventStore(path, "hq") as store:
        return store.connection.execute("SELECT door, kind FROM finding ORDER BY n").fetchall()


class Said:
    """A message as it comes from the broker; sibling of collect.Message."""

    def __init__(self, last: str, payload: bytes, door: str = "front", dup: bool = False) -> None:
        self.topic = f"doord/hq/door/{door}/{last}"
        self.payload = payload
        self.dup = dup


class Desk:
    """An intake over a store, and one door with its key."""

    def __init__(self, path: Path) -> None:
        self.store = EventStore(path, "hq")
        self.intake = Intake(self.store, "hq")
        self.signer = new_signer()
        self.roster = FixedRoster(front=self.signer)
        self.ack: int | None = None
        self.asked = False

    def say(self, *messages: Said, later_s: float = 0.0) -> list[str]:
        """The kinds of what was found."""
        with self.store.transaction():
            taken = self.intake.take(messages, self.roster.doors(), NOW + timedelta(seconds=later_s))
        self.intake.told(taken.findings, NOW + timedelta(seconds=later_s))
        heads = [head.seq for head in taken.acks.get("front", ()) if head.seq]
        self.asked = wire.GENESIS in taken.acks.get("front", ())
        self.ack = heads[-1] if heads else self.ack
        return [f"{one.kind}: {one.detail}" for one in taken.findings]

    def events(self, *payloads: bytes, dup: bool = False) -> list[str]:
        return self.say(*(Said("event", payload, dup=dup) for payload in payloads))

    def attest(self, later_s: float = 0.0, **changes: object) -> list[str]:
        said = an_attestation(**{"at": in_s(later_s), "seq": 0, **changes})
        return self.say(Said("attestation", attested(said, self.signer)), later_s=later_s)

    def look(self, later_s: float, patience_s: float = 0.0) -> list[Finding]:
        with self.store.transaction():
            found = self.intake.look(self.roster.doors(), NOW + timedelta(seconds=later_s), patience_s)
        self.intake.told(found, NOW + timedelta(seconds=later_s))
        return found
