"""Deletion receipts: a removed person is gone when every door has confirmed a version without him."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from edge.admin.model import Door, Removal
from edge.admin.records import Records


class Receipt(msgspec.Struct, frozen=True):
    """How far a removal has come."""

    subject: str
    removed_at_utc: str  # RFC 3339
    version: int | None  # the first published without the person; None: not pushed yet
    confirmed: dict[str, str]  # door -> when it was first seen with that version or a later one, RFC 3339
    missing: list[str]  # doors that have not confirmed
    retired: list[str]  # doors that were retired before they confirmed: erase them by hand
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
    doors = records.all(Door)
    return [_receipt(removal, doors) for _, removal in sorted(records.all(Removal).items())]


def _receipt(removal: Removal, doors: Mapping[str, Door]) -> Receipt:
    left = [door for door in doors if door not in removal.doors]
    missing = [door for door in left if doors[door].retired_at_utc is None]
    retired = [door for door in left if (doors[door].retired_at_utc or "") > removal.added_at_utc]
    return Receipt(
        removal.subject,
        removal.at_utc,
        removal.version,
        dict(removal.doors),
        missing,
        retired,
        complete=removal.version is not None and not missing,
    )
