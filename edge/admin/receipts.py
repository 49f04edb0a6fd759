"""Deletion receipts: a removed person is gone when every door has confirmed a version without him."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from edge.admin.model import Door, Publication, Removal, Revoked, publication_id
from edge.admin.records import Records
from edge.link.orders import utc


class Receipt(msgspec.Struct, frozen=True):
    """How far a removal has come."""

    subject: str
    removed_at_utc: str  # RFC 3339
    version: int | None  # the first published without the person; None: not pushed yet
    confirmed: dict[str, str]  # door -> when it was first seen with that version or a later one, RFC 3339
    missing: list[str]  # doors that have not confirmed
    retired: list[str]  # doors that were retired before they confirmed: erase them by hand; one of
    # that name may be in use again
    complete: bool


def published(records: Records, version: int) -> None:
    """What is removed is not in `version`, which was published now."""
    with records.transaction():
        for id_, removal in records.all(Removal).items():
            if removal.version is None:
                records.put(id_, msgspec.structs.replace(removal, version=version))


def confirm(records: Records, versions: Mapping[str, int], now_utc: str) -> list[Receipt]:
    """Note what versions doors verifiably have in force; all receipts, the newest removal last."""
    doors = records.all(Door)
    with records.transaction():
        for id_, removal in records.all(Removal).items():
            new = _confirmed(removal, versions, doors, now_utc)
            if new:
                records.put(id_, msgspec.structs.replace(removal, doors={**removal.doors, **new}))
    return receipts(records)


def _confirmed(
    removal: Removal, versions: Mapping[str, int], doors: Mapping[str, Door], now_utc: str
) -> dict[str, str]:
    """Doors that confirm for the first time."""
    if removal.version is None:
        return {}
    return {
        door: now_utc
        for door, version in versions.items()
        if door in doors and door not in removal.doors and version >= removal.version
    }


def receipts(records: Records) -> list[Receipt]:
    """All removals, the newest last."""
    doors, revoked = records.all(Door), list(records.all(Revoked).values())
    rows = sorted(records.all(Removal).items())
    return [_receipt(removal, doors, revoked, _published_at(records, removal)) for _, removal in rows]


def _published_at(records: Records, removal: Removal) -> str | None:
    """When the first version without the person was signed; None: none was, or it was not noted."""
    if removal.version is None:
        return None
    found = records.get(Publication, publication_id(removal.version))
    return None if found is None else found.at_utc


def _receipt(
    removal: Removal, doors: Mapping[str, Door], revoked: Iterable[Revoked], published_at: str | None
) -> Receipt:
    missing = [
        name
        for name, door in doors.items()
        if door.retired_at_utc is None
        and name not in removal.doors
        and not (published_at is not None and utc(door.added_at_utc) > utc(published_at))  # never had him
    ]
    retired = {one.door for one in revoked if one.door in doors and _had(one, removal)}
    return Receipt(
        removal.subject,
        removal.at_utc,
        removal.version,
        dict(removal.doors),
        missing,
        sorted(retired),
        complete=removal.version is not None and not missing,
    )


def _had(retired: Revoked, removal: Removal) -> bool:
    """Whether a door that was retired then may have a copy of the person."""
    at, confirmed = utc(retired.at_utc), removal.doors.get(retired.door)
    added = removal.added_at_utc
    return (not added or utc(added) < at) and not (confirmed is not None and utc(confirmed) < at)
