"""A site's shards put together: the gallery to search, the rights and the cards of a door. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timezone

import numpy as np

from edge.errors import ConfigError, GalleryError
from edge.identity.credentials import Cards, Credential
from edge.identity.gallery import gallery_of
from edge.identity.rights import Rights
from edge.identity.rights_file import resolve
from edge.identity.shards import MAX_HOLDERS, HeldCard, Holder, PeopleManifest, PeopleShard, RightsSite
from edge.values import Gallery

MAX_CARDS = 64_000


def assemble(manifest: PeopleManifest, shards: Iterable[PeopleShard], version: int) -> Gallery:
    """The gallery of all shards, each taken in turn, so that only one need be in memory.

    Raises:
        GalleryError: not as many subjects and templates as the manifest says, or a subject twice.
    """
    # claimed, not written: what a false manifest promises takes no memory until shards fill it
    templates = np.empty((manifest.templates, manifest.dimension), np.float32)
    owners = np.empty(manifest.templates, np.intp)
    subjects: list[str] = []
    rows = 0
    for shard in shards:
        until = rows + len(shard.owners)
        if until > manifest.templates:
            raise GalleryError(f"people: expected {manifest.templates} templates, got more")
        templates[rows:until] = shard.vectors
        owners[rows:until] = shard.owners + len(subjects)
        subjects += shard.subjects
        rows = until
    order = sorted(range(len(subjects)), key=subjects.__getitem__)
    ordered = tuple(subjects[i] for i in order)
    if (len(set(ordered)), len(ordered), rows) != (manifest.subjects, manifest.subjects, manifest.templates):
        raise GalleryError(
            f"people: expected {manifest.templates} templates of {manifest.subjects} subjects, "
            f"got {rows} of {len(set(ordered))}"
        )
    rank = np.empty(len(order), np.intp)
    rank[order] = np.arange(len(order))
    return gallery_of(version, manifest.model, ordered, templates, rank[owners])


def rights_of(site: RightsSite, holders: Iterable[Holder]) -> Rights:
    """The rights, every name followed.

    Raises:
        GalleryError: a contradiction, as in `rights.yaml`, with its path; too many holders.
    """
    subjects = {holder.subject: holder for holder in holders}
    if len(subjects) > MAX_HOLDERS:
        raise GalleryError(f"rights: expected at most {MAX_HOLDERS} subjects, got {len(subjects)}")
    try:
        return resolve(site, subjects, "rights")
    except ConfigError as error:
        raise GalleryError(str(error)) from None


def cards_of(holders: Iterable[Holder], card_key: bytes) -> Cards:
    """The cards of all holders. Raises GalleryError: one card of two subjects, or too many."""
    found: dict[bytes, Credential] = {}
    for holder in holders:
        for card in holder.cards:
            other = found.setdefault(card.digest, _credential(holder.subject, card))
            if other.subject != holder.subject:
                raise GalleryError(
                    f"rights: card {other.id}: expected one subject, got {other.subject} and {holder.subject}"
                )
    if len(found) > MAX_CARDS:
        raise GalleryError(f"rights: expected at most {MAX_CARDS} cards, got {len(found)}")
    return Cards(card_key, found)


def _credential(subject: str, card: HeldCard) -> Credential:
    at = card.expires_at
    expires = None if at is None else datetime.fromtimestamp(at, timezone.utc)
    return Credential(card.digest, subject, card.enabled, expires)
