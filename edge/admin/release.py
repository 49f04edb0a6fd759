"""From records to a signed version: push, refresh, rollback, rotate. To bring it to doors is `publish`'s."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec
from securesystemslib.signer import CryptoSigner, Key

from edge.admin.content import Content, Made, Progress, build, quiet, settle, target_path, write_target
from edge.admin.folder import COMMAND_NAMES, OpenSite, command_keys, command_signers
from edge.admin.keystore import BRIDGE, COLLECT, Keystore
from edge.admin.model import Publication, publication_id
from edge.admin.rollback import earlier
from edge.admin.sign import Signed
from edge.errors import AdminError
from edge.identity.sealing import COMMAND_KEYS
from edge.link import dsse
from edge.link.wire import rfc3339

KEPT = 10  # versions whose targets stay on the admin's disk, to be published again


@dataclass(frozen=True, slots=True)
class Draft:
    """What is to be signed."""

    targets: Mapping[str, Made]
    subjects: int
    templates: int
    accepted_by: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Release:
    """A version that was signed, or by a dry run would be."""

    publication: Publication  # version 0: a dry run
    roles: tuple[str, ...]  # with a new version; empty: only the timestamp is new
    targets: tuple[str, ...]  # new or changed
    target_bytes: int  # of those
    expires_utc: datetime | None  # when doors stop believing that it is the newest; None: dry run


def push(
    site: OpenSite,
    now_utc: datetime,
    accepted_by: str = "",
    note: str = "",
    also: Sequence[CryptoSigner] = (),
    progress: Progress = quiet,
    dry_run: bool = False,
    asked: bool = True,
) -> Release:
    """Sign what the records say now. Without a change it is signed as fresh again.

    Args:
        site: opened.
        now_utc: aware.
        accepted_by: who takes a gallery that the report questioned.
        note: kept with the version.
        also: keys of others who sign people too; the site's `people` role must list them.
        progress: told how many targets are done, of how many.
        dry_run: changes nothing on the disk.
        asked: whether `accepted_by` was asked now; else the acceptance of an earlier version holds.

    Raises:
        AdminError: asked without a second signer where the site wants one.
        ModelMismatch, GalleryError, ConfigError: the records are no gallery a door would take.
        GalleryKeyError: a key that must sign is not at hand.
    """
    _check_second(site, accepted_by if asked else "", also)
    content = _built(site, accepted_by, progress, dry_run)
    draft = Draft(content.targets, content.subjects, content.templates, accepted_by, note)
    return _release(site, draft, None) if dry_run else _sign(site, draft, now_utc, also)


def refresh(site: OpenSite, now_utc: datetime) -> Release:
    """Sign the same content as fresh again: a new timestamp."""
    return _sign(site, _present(site), now_utc)


def rollback(site: OpenSite, version: int, now_utc: datetime, note: str = "") -> Release:
    """Sign the people and rights of an earlier version as a new one.

    The records stay as they are, so the next push publishes those again. Keys are those of now, and
    who was removed since is left out.

    Raises:
        AdminError: no such version, or its targets are no longer kept.
    """
    before = publication(site, version)
    if before is None or not before.targets:
        kept = ", ".join(str(one.version) for one in publications(site) if one.targets) or "none"
        raise AdminError(f"rollback: expected one of the versions {kept}, got {version}")
    keys = {name: made for name, made in _built(site).targets.items() if not _rolls_back(name)}
    found = earlier(site.records, site.tree.targets_folder, before)
    targets = {**keys, **found.targets}
    text = note or f"rolled back to {version}"
    return _sign(site, Draft(targets, found.subjects, found.templates, before.accepted_by, text), now_utc)


def rotate(
    site: OpenSite,
    names: Sequence[str],
    roots: Sequence[Keystore],
    now_utc: datetime,
    add: Mapping[str, Sequence[Key]] | None = None,
    only_these: bool = False,
) -> Release:
    """Replace keys by new ones, signed by root; the new ones take over in their files.

    A rotation that is cut short is finished when its files are opened next, or begun anew.

    Args:
        site: opened.
        names: of `site.keys` and of the files with root keys.
        roots: opened files with root keys: as many as root's threshold.
        now_utc: aware.
        add: public keys that a role shall list as well, such as a second signer's for `people`.
        only_these: keys of these roles that are not at hand count no more: lost, stolen, or a second
            signer's who has left.

    Raises:
        GalleryKeyError: too few root keys are at hand.
        AdminError: no such name, or another site's keys.
    """
    stores = [site.keys, *roots]
    for store in roots:
        if store.site != site.keys.site:
            raise AdminError(f"{store.path}: expected keys of site {site.keys.site}, got {store.site}'s")
        site.settle(store)
    new = _prepared(stores, names, only_these)
    listed = {
        role: _keys_of(site, role, new, stores, only_these) for role in names if role not in COMMAND_NAMES
    }
    for role, keys in (add or {}).items():
        listed[role] = [*listed.get(role, site.tree.keys(role)), *keys]
    draft = _present(site)
    ours = {name: key for name, key in new[0].items() if name in COMMAND_NAMES}
    commands = command_keys({**command_signers(site.keys), **ours})
    made = write_target(site.tree.targets_folder, COMMAND_KEYS, dsse.encode_keys(commands))
    settle(site.tree.targets_folder, {COMMAND_KEYS: made}, [COMMAND_KEYS])
    draft = Draft({**draft.targets, COMMAND_KEYS: made}, draft.subjects, draft.templates, draft.accepted_by)
    signers = [signer for store in stores for signer in store.signers]
    before = site.tree.listed()
    signed = site.tree.rotate(listed, signers, draft.targets, now_utc, site.records.site().fresh_for_s)
    for store, keys_made in zip(stores, new, strict=True):
        store.promote(keys_made)
    return _recorded(site, draft, signed, before, now_utc)


def _prepared(
    stores: Sequence[Keystore], names: Sequence[str], only_these: bool
) -> list[dict[str, CryptoSigner]]:
    """New keys for each file. Raises AdminError: a name that lies in none.

    With `only_these` a targets key that was lost with its file is made anew in the first file of root's.
    """
    at_hand = [{*store.names} for store in stores]
    at_hand[0] |= {BRIDGE, COLLECT}  # a site may have neither until it is asked for
    per_store = [[name for name in names if name in there] for there in at_hand]
    unknown = [name for name in names if not any(name in there for there in at_hand)]
    if only_these and unknown == ["targets"] and len(stores) > 1:
        per_store[1].append(*unknown)
    elif unknown:
        raise AdminError(f"rotate-keys: expected names of keys at hand, got {', '.join(unknown)}")
    return [store.prepare(made) for store, made in zip(stores, per_store, strict=True)]


def _keys_of(
    site: OpenSite,
    role: str,
    new: Sequence[Mapping[str, CryptoSigner]],
    stores: Sequence[Keystore],
    only_these: bool,
) -> list[Key]:
    """What a role shall list: the new keys, and unless `only_these` those of others, not at hand."""
    own = {signer.public_key.keyid for store in stores for signer in store.signers}
    made: list[Key] = [keys[role].public_key for keys in new if role in keys]
    return made if only_these else made + [key for key in site.tree.keys(role) if key.keyid not in own]


def publications(site: OpenSite) -> list[Publication]:
    """All that was signed, the newest last."""
    return list(site.records.all(Publication).values())


def publication(site: OpenSite, version: int) -> Publication | None:
    """One of them."""
    return site.records.get(Publication, publication_id(version))


def _rolls_back(name: str) -> bool:
    return name.startswith(("people/", "rights/"))


def _built(
    site: OpenSite, accepted_by: str = "", progress: Progress = quiet, dry_run: bool = False
) -> Content:
    keys = command_keys(command_signers(site.keys))
    return build(site.records, site.tree.targets_folder, keys, accepted_by, progress, dry_run)


def _present(site: OpenSite) -> Draft:
    """What is signed now."""
    before = publication(site, site.tree.version)
    if before is None:  # cut short between signing and noting it: the records are what was signed
        content = _built(site)
        return Draft(site.tree.listed(), content.subjects, content.templates)
    return Draft(site.tree.listed(), before.subjects, before.templates, before.accepted_by, before.note)


def _check_second(site: OpenSite, accepted_by: str, also: Sequence[CryptoSigner]) -> None:
    listed = {key.keyid for key in site.tree.keys("people")}
    for signer in also:
        if signer.public_key.keyid not in listed:
            raise AdminError(
                f"second signer: expected a key that people lists, got {signer.public_key.keyid[:12]}"
            )
    others = {signer.public_key.keyid for signer in also} - {
        key.public_key.keyid for key in site.keys.signers
    }
    if accepted_by and site.records.site().second_signer and not others:
        raise AdminError("push: expected a second signer to accept it (the site's second_signer), got none")


def _sign(site: OpenSite, draft: Draft, now_utc: datetime, also: Sequence[CryptoSigner] = ()) -> Release:
    before, signers = site.tree.listed(), [*site.keys.signers, *also]
    signed = site.tree.sign(draft.targets, signers, now_utc, site.records.site().fresh_for_s)
    return _recorded(site, draft, signed, before, now_utc)


def _recorded(
    site: OpenSite, draft: Draft, signed: Signed, before: Mapping[str, Made], now_utc: datetime
) -> Release:
    """Note the version once, and let go of targets that no version kept needs."""
    release = _release(site, draft, signed, before, now_utc)
    with site.records.transaction():
        if publication(site, signed.version) is None:
            site.records.put(publication_id(signed.version), release.publication)
        kept = publications(site)
        for old in kept[:-KEPT]:
            if old.targets:
                site.records.put(publication_id(old.version), msgspec.structs.replace(old, targets={}))
    site.tree.prune({site.tree.version, *(one.version for one in kept[-KEPT:])})
    wanted = {(name, sha256) for one in kept[-KEPT:] for name, sha256 in one.targets.items()}
    wanted |= {(name, made.sha256) for name, made in draft.targets.items()}
    _prune(site.tree.targets_folder, {target_path(site.tree.targets_folder, *pair) for pair in wanted})
    return release


def _prune(folder: Path, wanted: set[Path]) -> None:
    for path in folder.glob("*/*"):
        if path not in wanted:
            path.unlink(missing_ok=True)


def _release(
    site: OpenSite,
    draft: Draft,
    signed: Signed | None,
    before: Mapping[str, Made] | None = None,
    now_utc: datetime | None = None,
) -> Release:
    before = site.tree.listed() if before is None else before
    digests = {name: made.sha256 for name, made in sorted(draft.targets.items())}
    digest = hashlib.sha256("\n".join(f"{name} {sha256}" for name, sha256 in digests.items()).encode())
    changed = [name for name in digests if name not in before or before[name].sha256 != digests[name]]
    publication_ = Publication(
        version=signed.version if signed else 0,
        at_utc=rfc3339(now_utc.timestamp()) if now_utc else "",
        digest=digest.hexdigest(),
        targets=digests,
        subjects=draft.subjects,
        templates=draft.templates,
        signers=list(signed.signers) if signed else [],
        accepted_by=draft.accepted_by,
        note=draft.note,
    )
    size = sum(draft.targets[name].length for name in changed)
    roles = signed.changed if signed else ()
    return Release(publication_, roles, tuple(changed), size, signed.expires_utc if signed else None)
