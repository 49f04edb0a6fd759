"""A bouncing contact made into one change. Pure: it is given the edges and the time.

A new level counts when it has held for `hold_s` without an edge between; so a noise pulse shorter
than that opens nothing, and each real change comes `hold_s` late.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Contact:
    """An input: the level that counts, and since when (s, monotonic) the line has differed from it."""

    level: bool
    differs_since: float | None = None


def edge(contact: Contact, level: bool, at: float) -> Contact:
    """The line was seen at `level` at `at`; each edge away from what counts begins the wait again."""
    return replace(contact, differs_since=None if level == contact.level else at)


def seen(contact: Contact, level: bool, at: float) -> Contact:
    """The line was read at `level`: no edge if that is what was known, one that was missed otherwise."""
    known = contact.level if contact.differs_since is None else not contact.level
    return contact if level == known else edge(contact, level, at)


def settle(contact: Contact, now: float, hold_s: float) -> Contact:
    """The contact at `now`; its level has changed when the line has held the other one long enough."""
    since = contact.differs_since
    if since is None or not now - since >= hold_s:  # so a time that is no number settles nothing
        return contact
    return Contact(not contact.level)


def settles_at(contact: Contact, hold_s: float) -> float | None:
    """When `settle` will change the level, if no edge comes; None: nothing is pending."""
    return None if contact.differs_since is None else contact.differs_since + hold_s
