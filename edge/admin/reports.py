"""What the doors say of themselves, verified with the key that each was given when it was added."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from securesystemslib.signer import Key

from edge.admin.conversation import Conversation, Heard
from edge.admin.model import Door
from edge.errors import PayloadError
from edge.link import dsse, orders
from edge.link.orders import Attestation

SILENT_S = 180.0  # three reports of a door that did not come


@dataclass(frozen=True, slots=True)
class Reports:
    """What the broker keeps of a site's doors."""

    genuine: dict[str, Attestation] = field(default_factory=dict)
    forged: dict[str, str] = field(default_factory=dict)  # door -> why what is there is not believed


def read_reports(talk: Conversation, site: str, doors: Mapping[str, Door]) -> Reports:
    """What the broker keeps of each door, retired ones too. Raises LinkError."""
    found = Reports()
    for heard in talk.kept(f"doord/{site}/door/+/attestation"):
        door = door_of(heard.topic)
        record = doors.get(door)
        try:
            if record is None:
                raise PayloadError("no such door was added to this site")
            found.genuine[door] = attestation_of(heard, site, record)
        except PayloadError as error:
            found.forged[door] = str(error)
    return found


def door_of(topic: str) -> str:
    """`front` of `doord/hq/door/front/reply`; of what a broker made up at most 32 characters, or none."""
    parts = topic.split("/")
    return parts[3][:32] if len(parts) > 3 else ""


def key_of(door: Door) -> dict[str, Key]:
    """The key that a door signs with, by its id. Raises PayloadError: the record has none."""
    key = dsse.decode_key(door.public_key)
    return {key.keyid: key}


def attestation_of(heard: Heard, site: str, door: Door) -> Attestation:
    """Raises PayloadError: the door did not sign this."""
    return opened_attestation(heard.payload, site, door.door, key_of(door))


def opened_attestation(envelope: bytes, site: str, door: str, keys: Mapping[str, Key]) -> Attestation:
    """What one of `keys` has signed as the report of a door. Raises PayloadError."""
    payload, _ = dsse.opened(envelope, orders.ATTESTATION_TYPE, keys, orders.MAX_REPORT_BYTES)
    said = orders.decode_attestation(payload)
    if (said.site, said.door) != (site, door):
        raise PayloadError(f"expected a report of {site}/{door}, got one of {said.site}/{said.door}")
    return said
