"""What a joined door has of its site: fetched, verified, opened, then in force, whole or not at all.

What is in force names its files by digest; they lie beside it, sealed to the site as they came. The
names are written last, so after a power cut the door has the old or the new, never a mixture.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from edge.errors import GalleryError, GalleryNotStored, LinkError, ModelMismatch, PayloadError
from edge.identity import sealing, shards
from edge.identity.credentials import Cards
from edge.identity.rights import Rights
from edge.identity.site_gallery import assemble, cards_of, rights_of
from edge.joined import Joined
from edge.link import dsse
from edge.link.bundle import DoorBundle
from edge.link.fetch import NoFetch
from edge.link.shelf import Target
from edge.link.trust import Release, SiteTrust
from edge.values import Gallery

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Content:
    """One version of the site, opened and checked."""

    version: int  # as signed: the TUF snapshot's
    expires_utc: datetime  # until when it is believed without news
    signers: tuple[str, ...]  # ids of the keys that signed people and rights
    gallery: Gallery
    rights: Rights
    cards: Cards
    keys: dsse.Signers  # who may command this door, who may ack its events


class Site:
    """A joined door's copy of its site. `load` at the start, then one thread calls `update`."""

    def __init__(
        self,
        bundle: DoorBundle,
        trust: SiteTrust,
        model: tuple[str, int] | None,
        check: Callable[[Rights], str | None] = lambda _rights: None,
    ) -> None:
        """What is needed to open it.

        Args:
            bundle: the door's own key is in it.
            trust: fetches, verifies, and keeps what is in force.
            model: id and dimension of the embedder that runs here; None: none does.
            check: what the rights lack that this door's configuration asks for, in words.
        """
        self.content: Content | None = None
        self._bundle = bundle
        self._trust = trust
        self._model = model
        self._check = check
        self._parts: dict[str, str] = {}  # in force: name -> SHA-256

    def load(self) -> Content | None:
        """Put in force what was so when the door was switched off; None: nothing ever was.

        Raises:
            GalleryError: it is damaged, or of another embedder than now; nothing is in force.
            LinkError: it is damaged and can't be fetched again now.
        """
        release = self._trust.in_force()
        if release is not None:
            self._put_in_force(release, self._wanted(release))
        return self.content

    def update(self) -> bool:
        """Ask for news and put them in force; whether there were any.

        Raises:
            GallerySignatureError, GalleryRollback, GalleryExpired, ModelMismatch, GalleryError: what
                is published can't be used, or the disk refuses it; what was in force stays so.
            LinkError: it can't be asked for now.
        """
        release = self._trust.refresh()
        now = self.content
        if now is not None and (now.version, now.expires_utc) == (release.version, release.expires_utc):
            return False
        try:
            wanted = self._wanted(release)
            if now is not None and self._parts == _digests(wanted):  # signed again, or others' doors changed
                self._trust.commit(release)
                self.content = _signed_again(now, release)
                return True
            self._put_in_force(release, wanted)
        except GalleryNotStored:
            self._tidy()  # what came of it would keep the disk full
            raise
        self._tidy()
        return True

    def _tidy(self) -> None:
        """Remove the files that are not in force. They do no harm where that fails: it is no refusal."""
        kept = self._trust.in_force()
        try:
            self._trust.prune({target.sha256 for target in kept.asked.values()} if kept else set())
        except GalleryError as error:
            log.warning("site: files that are no longer in force stay: %s", error)

    def _put_in_force(self, release: Release, wanted: list[Target]) -> None:
        content = self._opened(release, release.fetch(wanted))
        self._trust.commit(release)
        self.content, self._parts = content, _digests(wanted)

    def _wanted(self, release: Release) -> list[Target]:
        """All parts that this door needs. Fetches those that tell which the others are."""
        names = (
            sealing.keys_name(self._bundle.door),
            sealing.COMMAND_KEYS,
            shards.PEOPLE_MANIFEST,
            shards.RIGHTS_SITE,
        )
        first = [_target(release, name) for name in names]
        parts = _Parts(self._bundle, release.fetch(first))
        self._refuse_another_model(parts.manifest)
        more = [*parts.people_names(), *parts.rights_names()]
        return first + [_target(release, name) for name in more]

    def _refuse_another_model(self, manifest: shards.PeopleManifest) -> None:
        got = (manifest.model, manifest.dimension)
        if self._model is not None and got != self._model:
            raise ModelMismatch(f"site: expected templates of {self._model[0]}, got those of {got[0]}")

    def _opened(self, release: Release, paths: Mapping[str, Path]) -> Content:
        parts = _Parts(self._bundle, paths)
        holders = list(parts.holders())
        rights = rights_of(parts.rights, holders)
        lacking = self._check(rights)
        if lacking is not None:
            raise GalleryError(f"site: version {release.version}: {lacking}")
        return Content(
            release.version,
            release.expires_utc,
            release.signers,
            assemble(parts.manifest, parts.people(), release.version),
            rights,
            cards_of(holders, parts.keys.card_key),
            parts.signers(),
        )


def in_force(joined: Joined, model: tuple[str, int] | None) -> Content:
    """What a joined door has in force, read beside the running daemon; nothing is fetched.

    Raises:
        GalleryError: nothing, damaged, or of another embedder.
    """
    trust = SiteTrust(
        joined.tree, joined.bundle.root, NoFetch(), lambda: None, joined.bundle.key_encryption_key
    )
    try:
        content = Site(joined.bundle, trust, model).load()
    except LinkError:
        raise GalleryError(f"{joined.tree}: is damaged: the daemon fetches it again") from None
    if content is None:
        raise GalleryError("nothing of the site is in force yet: see doord status")
    return content


class _Parts:
    """The files of one release, opened as they are asked for."""

    def __init__(self, bundle: DoorBundle, paths: Mapping[str, Path]) -> None:
        self._site = bundle.site
        self._paths = paths
        name = sealing.keys_name(bundle.door)
        sealed = self._content(name)
        opened = sealing.unseal_target(bundle.key_encryption_key, bundle.site, name, sealed)
        self.keys = sealing.decode_keys(opened)
        self.manifest = shards.decode_manifest(self._open(shards.PEOPLE_MANIFEST))
        self.rights = shards.decode_rights_site(self._open(shards.RIGHTS_SITE))

    def people_names(self) -> list[str]:
        return [shards.people_name(i, self.manifest.shards) for i in range(self.manifest.shards)]

    def rights_names(self) -> list[str]:
        return [shards.rights_name(i, self.rights.shards) for i in range(self.rights.shards)]

    def people(self) -> Iterator[shards.PeopleShard]:
        for i, name in enumerate(self.people_names()):
            yield shards.decode_people_shard(self._open(name), i, self.manifest)

    def holders(self) -> Iterator[shards.Holder]:
        for i, name in enumerate(self.rights_names()):
            yield from shards.decode_rights_shard(self._open(name), i, self.rights)

    def signers(self) -> dsse.Signers:
        try:
            return dsse.decode_keys(self._content(sealing.COMMAND_KEYS))
        except PayloadError as error:
            raise GalleryError(f"site: {error}") from None

    def _open(self, name: str) -> bytes:
        return sealing.unseal_target(self.keys.site_key, self._site, name, self._content(name))

    def _content(self, name: str) -> bytes:
        try:
            return self._paths[name].read_bytes()
        except OSError as error:
            raise GalleryError(f"{self._paths[name]}: {error.strerror}") from None


def _target(release: Release, name: str) -> Target:
    found = release.target(name)
    if found is None:
        raise GalleryError(f"site: version {release.version}: expected {name}, which nobody has signed")
    return found


def _signed_again(content: Content, release: Release) -> Content:
    """The same parts as a newer version."""
    return replace(
        content,
        version=release.version,
        expires_utc=release.expires_utc,
        signers=release.signers,
        gallery=replace(content.gallery, version=release.version),  # else the door would seem to lag
    )


def _digests(targets: list[Target]) -> dict[str, str]:
    return {target.name: target.sha256 for target in targets}
