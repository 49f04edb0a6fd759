"""Doors of a site: one file makes a door part of it, and to retire one changes what the others know."""

from __future__ import annotations

import secrets
from datetime import datetime

import msgspec
from securesystemslib.signer import CryptoSigner

from edge.admin import lock_entity
from edge.admin.folder import OpenSite
from edge.admin.model import Door, Revoked, Seen
from edge.admin.pki import TAKEN_NAMES
from edge.admin.rollback import OldKey
from edge.disk import KEY_BYTES
from edge.errors import AdminError
from edge.identity.gallery import check_subject
from edge.identity.sealing import site_key_id
from edge.link import discovery
from edge.link.bundle import FORMAT, DoorBundle
from edge.link.wire import Topics, rfc3339


def add_door(site: OpenSite, door: str, now_utc: datetime, face_only: bool = True) -> DoorBundle:
    """A new door; the next push seals the site's keys for it. Write the bundle with mode 0600.

    A door that was retired comes back with new keys; its old ones stay revoked.

    Raises:
        AdminError: part of the site already, or an id that is taken or none.
    """
    check_subject(door)
    old = site.records.get(Door, door)
    if door in TAKEN_NAMES or (old is not None and old.retired_at_utc is None):
        raise AdminError(f"door {door}: expected an id that is free, got one in use")
    settings, authority = site.records.site(), site.authority()
    signer = CryptoSigner.generate_ed25519()
    key = secrets.token_bytes(KEY_BYTES)
    issued = authority.client(door, now_utc)
    public = {**signer.public_key.to_dict(), "keyid": signer.public_key.keyid}
    made = Door(door, rfc3339(now_utc.timestamp()), key, public, issued.serial, face_only)
    with site.records.transaction():
        site.records.put(door, made)
        site.records.delete(Seen, door)  # of the one before: this one counts its starts from 1
    return DoorBundle(
        FORMAT,
        settings.site,
        door,
        settings.broker_host,
        settings.broker_port,
        authority.record.certificate,
        issued.certificate,
        issued.key,
        site.tree.root_bytes(),
        key,
        signer.private_bytes.decode(),
    )


def retire_door(site: OpenSite, door: str, now_utc: datetime) -> None:
    """A door is no longer part of the site: its certificate is revoked and the site gets a new key.

    The next push seals everything with the new key, for the other doors. The broker refuses the door
    once it has the new list of revoked certificates (`doord admin broker-files`). What the door knew
    when it was retired it knows: the templates, rights and card digests of that day.

    Raises:
        AdminError: not part of the site.
    """
    found = site.records.get(Door, door)
    if found is None or found.retired_at_utc is not None:
        raise AdminError(f"door {door}: expected a door of the site, got none of that id")
    settings, at_utc = site.records.site(), rfc3339(now_utc.timestamp())
    with site.records.transaction():
        site.records.put(door, msgspec.structs.replace(found, retired_at_utc=at_utc))
        site.records.put(str(found.certificate_serial), Revoked(door, at_utc))
        site.records.put(site_key_id(settings.site_key).hex(), OldKey(settings.site_key))
        site.records.put_site(msgspec.structs.replace(settings, site_key=secrets.token_bytes(KEY_BYTES)))


def doors(site: OpenSite) -> list[Door]:
    """All doors, also retired ones, by id."""
    return list(site.records.all(Door).values())


def kept_topics(site: str, door: str) -> list[str]:
    """Topics on which the broker keeps something of a door: to be cleared when it is retired."""
    base = Topics(site, door).base
    kept = [f"{base}/{last}" for last in ("status", "state", "attestation", "command")]
    entities = [discovery.config_topic(door), lock_entity.config_topic(door)]
    return [*kept, *entities, lock_entity.state_topic(site, door)]
