"""The admin's folder: where keys, records and the signed tree lie, and how a site begins.

site.keys   root.keys   records.db   ca.pem   admin.pem   admin.key   tree/{metadata,targets}/
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import msgspec
from cryptography import x509
from securesystemslib.signer import CryptoSigner, Key

from edge.admin.content import build
from edge.admin.handed import broker_as
from edge.admin.keystore import BRIDGE, COLLECT, ROOT_NAMES, SITE_NAMES, Keystore
from edge.admin.model import Revoked, Site
from edge.admin.pki import ADMIN_NAME, Authority, CaRecord
from edge.admin.records import Records
from edge.admin.sign import Tree
from edge.config import MqttConfig
from edge.disk import KEY_BYTES, StateLock, make_private_folder, write_atomically
from edge.errors import AdminError, GalleryError
from edge.identity.sealing import COMMAND_KEYS
from edge.link.wire import rfc3339

CA = "ca"  # the id of the one record
SITE_KEYS, ROOT_KEYS, RECORDS, TREE = "site.keys", "root.keys", "records.db", "tree"
# key -> its name in `commands/keys`
COMMAND_NAMES = {"commands": ADMIN_NAME, BRIDGE: BRIDGE, COLLECT: COLLECT}
_TLS = ("ca.pem", "admin.pem", "admin.key")


class OpenSite:
    """A site on this machine: keys, records and tree, held by one process. Use it in a `with` block."""

    def __init__(self, folder: Path, passphrase: str) -> None:
        """Raises GalleryError: no site there, in use, damaged; GalleryKeyError: a wrong passphrase."""
        self.folder = folder
        with contextlib.ExitStack() as stack:
            stack.enter_context(StateLock(folder))
            self.keys = Keystore.open(folder / SITE_KEYS, passphrase)
            self.records = stack.enter_context(Records(folder / RECORDS, self.keys.data_key))
            self.tree = Tree(folder / TREE)
            self.settle(self.keys)
            self._held = stack.pop_all()

    def __enter__(self) -> OpenSite:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let another process have it; may be called twice."""
        self._held.close()

    def settle(self, keys: Keystore) -> None:
        """Finish a rotation that was cut short: keys that wait and count already take their names."""
        counts = [name for name, signer in keys.waiting().items() if self._counts(name, signer.public_key)]
        if counts:
            keys.promote(counts)

    def _counts(self, name: str, key: Key) -> bool:
        if name in COMMAND_NAMES:
            return key.keyid.encode() in self.tree.target(COMMAND_KEYS)
        return key.keyid in {listed.keyid for listed in self.tree.keys(name)}

    def authority(self) -> Authority:
        """The site's certificate authority. Raises GalleryError: its record is missing."""
        record = self.records.get(CaRecord, CA)
        if record is None:
            raise GalleryError(f"{self.folder / RECORDS}: expected a certificate authority, got none")
        return Authority(record)

    def mqtt(self) -> MqttConfig:
        """How to reach the broker, as admin."""
        site = self.records.site()
        return broker_as(ADMIN_NAME, self.folder, site.broker_host, site.broker_port)


def command_keys(signers: Mapping[str, CryptoSigner]) -> dict[str, Key]:
    """What `commands/keys` says: who may order, and `collect`, which acknowledges and may order nothing."""
    # always in this order: other bytes would ask for root's signature again
    return {COMMAND_NAMES[name]: signers[name].public_key for name in COMMAND_NAMES if name in signers}


def command_signers(keys: Keystore) -> dict[str, CryptoSigner]:
    """Those of the site's keys that stand in `commands/keys`; a site need not have all of them."""
    return {name: keys.signer(name) for name in COMMAND_NAMES if name in keys.names}


def new_site_keys(site: Site) -> Site:
    """The same site with new random keys."""
    return msgspec.structs.replace(
        site, site_key=secrets.token_bytes(KEY_BYTES), card_key=secrets.token_bytes(KEY_BYTES)
    )


def create_site(
    folder: Path,
    site: Site,
    passphrase: str,
    root_passphrase: str,
    now_utc: datetime,
    root_keys: Sequence[Path] = (),
    root_threshold: int = 1,
) -> None:
    """A new site: keys, authority, records, and a signed tree of version 1 without people.

    Args:
        folder: made, mode 0700.
        site: its `site_key` and `card_key` are replaced by new ones.
        passphrase: of `site.keys`.
        root_passphrase: of each file with root keys.
        now_utc: aware.
        root_keys: files to make, each with a root key; the first has the targets key too. Empty:
            `root.keys` in `folder`, to be moved to a stick.
        root_threshold: how many of the root keys must sign a change of keys.

    Raises:
        AdminError: there is a site already, or a threshold above the number of root keys.
        GalleryError, GalleryKeyError: a passphrase is too short, or the disk refuses; nothing is left.
    """
    paths = list(root_keys) or [folder / ROOT_KEYS]
    if not 1 <= root_threshold <= len(paths):
        raise AdminError(f"root: expected a threshold of 1 to {len(paths)}, got {root_threshold}")
    make_private_folder(folder)
    _check_free(folder, paths)
    names = [ROOT_NAMES] + [ROOT_NAMES[:1]] * (len(paths) - 1)
    with contextlib.ExitStack() as undo:
        undo.callback(_remove_all, folder, paths)
        roots = [
            Keystore.create(path, site.site, name, root_passphrase)
            for path, name in zip(paths, names, strict=True)
        ]
        keys = Keystore.create(folder / SITE_KEYS, site.site, SITE_NAMES, passphrase)
        _fill(folder, site, keys, roots, now_utc, root_threshold)
        undo.pop_all()


def _check_free(folder: Path, root_keys: Sequence[Path]) -> None:
    """Nothing that a site is made of is there. Raises AdminError."""
    for path in (*(folder / name for name in (SITE_KEYS, RECORDS, TREE)), *root_keys):
        if os.path.lexists(path):
            raise AdminError(
                f"{path}: expected no site yet, got one: nothing is overwritten; "
                "if it is what an init left that was cut short, delete it"
            )


def _remove_all(folder: Path, root_keys: Sequence[Path]) -> None:
    """What an init has made that failed: else keys that nobody uses stand in the way of the next."""
    shutil.rmtree(folder / TREE, ignore_errors=True)
    made = [*root_keys, folder / SITE_KEYS, *folder.glob(f"{RECORDS}*"), *(folder / name for name in _TLS)]
    for path in made:
        with contextlib.suppress(OSError):
            path.unlink()


def _fill(
    folder: Path,
    site: Site,
    keys: Keystore,
    roots: Sequence[Keystore],
    now_utc: datetime,
    root_threshold: int,
) -> None:
    """Records, certificates and the first version."""
    with Records.create(folder / RECORDS, keys.data_key) as records:
        records.put_site(new_site_keys(site))
        authority = Authority.create(site.site, now_utc)
        records.put(CA, authority.record)
        _write_certificates(folder, authority, now_utc)
        content = build(records, folder / TREE / "targets", command_keys(command_signers(keys)))
        listed = {name: [keys.signer(name).public_key] for name in ("people", "rights", "publish")}
        listed["root"] = [store.signer("root").public_key for store in roots]
        listed["targets"] = [roots[0].signer("targets").public_key]
        signers = [*keys.signers, *(signer for store in roots for signer in store.signers)]
        Tree.create(
            folder / TREE, listed, signers, content.targets, now_utc, site.fresh_for_s, root_threshold
        )


def renew_certificate(site: OpenSite, now_utc: datetime) -> None:
    """A new certificate of the admin's for the broker; the old one is revoked.

    The broker refuses the old one once it has the new list (`doord admin broker-files`). Cut short, it is
    done again.

    Raises:
        AdminError: the old certificate can't be read.
        GalleryError: the disk refuses.
    """
    path = site.folder / "admin.pem"
    try:
        serial = x509.load_pem_x509_certificate(path.read_bytes()).serial_number
    except (OSError, ValueError) as error:
        raise AdminError(f"{path}: expected the certificate that is to be revoked, got: {error}") from None
    site.records.put(str(serial), Revoked(ADMIN_NAME, rfc3339(now_utc.timestamp())))
    _write_certificates(site.folder, site.authority(), now_utc)


def _write_certificates(folder: Path, authority: Authority, now_utc: datetime) -> None:
    """The admin's own, for the broker; its key opens the broker and nothing that is signed."""
    issued = authority.client(ADMIN_NAME, now_utc)
    try:
        write_atomically(folder / "ca.pem", authority.record.certificate.encode(), 0o644)
        write_atomically(folder / "admin.pem", issued.certificate.encode(), 0o644)
        write_atomically(folder / "admin.key", issued.key.encode())
    except OSError as error:
        raise GalleryError(f"{folder}: {error.strerror}") from None
