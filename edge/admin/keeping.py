"""What is decided about collected events: what of it is wrong and accepted, and how long they stay.

Both leave a row in `finding`. What was deleted for its age leaves the number and the digest of its last
event in `chain`: what stays is verified from there on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from edge.admin.store import EventStore, Finding
from edge.errors import AdminError
from edge.link import orders
from edge.link.chain import first_flaw
from edge.link.wire import ChainHead, rfc3339

_MOST = 5000  # events of a chain that go at once
_MAX_NAME, _MAX_TEXT = 60, 300
_LASTING = ("Accepted", "Pruned")  # findings that no age deletes


def accept(store: EventStore, door: str, by: str, why: str, now: datetime) -> str:
    """What is missing of a door and its forks as of now are known and count as wrong no more; what they are.

    What is missing is not waited for any longer, and stored all the same when it comes.

    Args:
        store: another process may collect into it.
        door: its id.
        by: who accepts it.
        why: the reason, or where it can be read.
        now: aware.

    Raises:
        AdminError: nothing is wrong with the door, or a name or reason that is none.
        GalleryError: the disk refuses.
    """
    for what, text, most in (("name", by, _MAX_NAME), ("reason", why, _MAX_TEXT)):
        if not (text.strip() and text.isprintable() and len(text) <= most):
            raise AdminError(f"{what}: expected 1 to {most} printable letters, got {text[:most]!r}")
    at = rfc3339(now.timestamp())
    words = f"accepted at {at} by {by}: {why}"
    with store.transaction():
        change = (
            "UPDATE gap SET why = ? WHERE door = ? AND (why IS NULL OR why LIKE 'lost:%') "
            "RETURNING chain, first, last"
        )
        gaps = sorted(store.connection.execute(change, (words, door)).fetchall())
        change = (
            "UPDATE chain SET accepted = ? WHERE door = ? AND chain > 1 AND accepted IS NULL RETURNING chain"
        )
        forks = sorted(store.connection.execute(change, (words, door)).fetchall())
        found = [f"events {first} to {last} of chain {chain} missing" for chain, first, last in gaps]
        found += [f"chain {chain}" for (chain,) in forks]
        if not found:
            raise AdminError(f"door {door}: expected something missing or a fork to accept, got none")
        detail = f"{', '.join(found)}: by {by}: {why}"
        store.keep(Finding(at, door, "Accepted", detail))
    return detail


@dataclass(frozen=True, slots=True)
class _Chain:
    door: str
    chain: int
    first: int
    before: str
    limit: int  # nothing beyond it goes: what the door has not signed for, and the chain's last event


def prune(store: EventStore, keep_days: int, now: datetime) -> list[Finding]:
    """Delete what was stored earlier than `keep_days` ago; what is to be told. Within a transaction.

    Only what the door has signed for, or somebody has accepted, goes, and nothing behind what is missing
    and not accepted. The days end at midnight, UTC, by the collector's clock or the newest signed report,
    whichever is earlier: one clock that leaps deletes nothing.
    """
    heard = store.connection.execute("SELECT max(heard_at) FROM door").fetchone()[0]
    if heard is None:
        return []
    today = min(now, orders.utc(heard)).replace(hour=0, minute=0, second=0, microsecond=0)
    limit, at = rfc3339((today - timedelta(days=keep_days)).timestamp()), rfc3339(now.timestamp())
    forget = f"DELETE FROM finding WHERE at < ? AND kind NOT IN {_LASTING}"  # noqa: S608  # words of our own
    store.connection.execute(forget, (limit,))
    return [
        Finding(at, chain.door, *told) for chain in _chains(store) if (told := _shorten(store, chain, limit))
    ]


def _chains(store: EventStore) -> Iterator[_Chain]:
    query = (
        "SELECT door, chain, first, before, min(seq - 1, iif(accepted IS NULL, vouched, seq), "
        "(SELECT coalesce(min(gap.first) - 1, chain.seq) FROM gap WHERE gap.door = chain.door "
        "AND gap.chain = chain.chain AND gap.last >= chain.first "
        "AND (why IS NULL OR why LIKE 'lost:%'))) FROM chain"
    )
    for row in store.connection.execute(query).fetchall():
        yield _Chain(*row)


def _shorten(store: EventStore, chain: _Chain, limit: str) -> tuple[str, str] | None:
    """Kind and words of what is to be told, if anything is."""
    records, key = _old(store, chain, limit), (chain.door, chain.chain)
    if not records:
        return None
    last, digest = records[-1][0], records[-1][2]
    query = "SELECT first, last FROM gap WHERE door = ? AND chain = ?"
    known = store.connection.execute(query, key).fetchall()
    start, head = ChainHead(chain.first - 1, chain.before), ChainHead(last, digest)
    flaw = first_flaw(((seq, payload) for seq, payload, _ in records), head, start=start, known=known)
    if flaw is not None:
        return (
            "NotPruned",
            f"nothing is deleted for its age: event {flaw.seq} of chain {chain.chain} {flaw.what}",
        )
    for change in (
        "DELETE FROM event WHERE door = ? AND chain = ? AND seq <= ?",
        "DELETE FROM gap WHERE door = ? AND chain = ? AND last <= ?",
    ):
        store.connection.execute(change, (*key, last))
    change = "UPDATE chain SET first = ?, before = ? WHERE door = ? AND chain = ?"
    store.connection.execute(change, (last + 1, digest, *key))
    return "Pruned", f"events {records[0][0]} to {last} of chain {chain.chain} deleted: stored before {limit}"


def _old(store: EventStore, chain: _Chain, limit: str) -> list[tuple[int, bytes, str]]:
    """Number, bytes and digest of the oldest events, as far as they may go."""
    query = (
        "SELECT seq, payload, digest, stored_at FROM event "
        "WHERE door = ? AND chain = ? AND seq <= ? ORDER BY seq LIMIT ?"
    )
    found = []
    rows = store.connection.execute(query, (chain.door, chain.chain, chain.limit, _MOST))
    for seq, payload, digest, stored_at in rows:
        if not stored_at < limit:
            break
        found.append((seq, payload, digest))
    return found
