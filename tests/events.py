"""Events to record, and a ledger as files that can be tampered with."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from edge.link import wire

SETTING = wire.Setting(0.7, "facenet", 1, simulation=True)
BEGAN = 1_700_000_000.0
DAY_S = 86400.0


def a_notice(detail: str = "", at: float = BEGAN) -> wire.Notice:
    """An event with an id of its own; `at`: UTC s."""
    return wire.notice("CameraFault", detail, wire.Stamp.of(at, os.urandom(10)), SETTING)


def gap_event(gap: wire.Gap) -> wire.Event:
    return wire.dropped(gap, wire.Stamp.of(BEGAN, os.urandom(10)), SETTING)


def rows_of(path: Path) -> list[tuple[int, bytes]]:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
        return database.execute("SELECT seq, payload FROM events ORDER BY seq").fetchall()


def numbers_of(path: Path) -> list[int]:
    return [seq for seq, _ in rows_of(path)]


def told(path: Path) -> list[wire.Event]:
    return [wire.decode_event(payload) for _, payload in rows_of(path)]


def details_told(path: Path) -> list[str]:
    """Kind of each event, and of a notice what it says."""
    return [f"{event.kind} {getattr(event, 'detail', '')}".strip() for event in told(path)]


def tamper(path: Path, *statements: str | tuple[str, tuple[object, ...]]) -> None:
    """Change the ledger as who has the card could."""
    with closing(sqlite3.connect(path)) as database, database:
        for statement in statements:
            database.execute(*((statement,) if isinstance(statement, str) else statement))


def edit(path: Path, seq: int, change: Callable[[bytes], bytes]) -> None:
    payload = dict(rows_of(path))[seq]
    changed = change(payload)
    assert changed != payload
    tamper(path, ("UPDATE events SET payload = ? WHERE seq = ?", (changed, seq)))
