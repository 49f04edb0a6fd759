"""A command of root's on the state files acts as their owner: with the owner's rights, and credentials.

Else what it makes would belong to root, and the service, which runs as user doord, could not open it.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from edge.config import GALLERY_KEY, Config
from edge.errors import GalleryError, GalleryKeyError

_SEALED = Path("/etc/credstore.encrypted")  # as systemd/credentials leaves them: doord.NAME
_KEPT = Path("/etc/credstore")
_DECRYPT_S = 30.0  # a TPM takes a second


@contextlib.contextmanager
def as_owner(config: Config, credentials: Sequence[str] = ()) -> Iterator[None]:
    """While it lasts root is who owns the state directory, where that is another; for one thread.

    Files that a user named are to be read before, and written after. The gallery's key is at hand, and of
    the service's other credentials those that are named: a TPM takes a second for each.

    Raises:
        GalleryError: the state directory can't be looked at; GalleryKeyError: systemd can't decrypt one.
    """
    owner = _owner(Path(config.state_dir))
    if os.geteuid() != 0 or owner is None or owner.pw_uid == 0:
        yield
        return
    with _credentials(owner, (GALLERY_KEY, *credentials)) as folder, _acting(owner, folder):
        yield


def _owner(state: Path) -> pwd.struct_passwd | None:
    """Of the directory; None: it is not there, or its owner has no name here."""
    try:
        return pwd.getpwuid(state.stat().st_uid)
    except (FileNotFoundError, KeyError):
        return None
    except OSError as error:
        raise GalleryError(f"{state}: {error.strerror}") from None


@contextlib.contextmanager
def _credentials(owner: pwd.struct_passwd, names: Sequence[str]) -> Iterator[str | None]:
    """A folder in memory with those that are there, as the service gets them; None: none is."""
    found = {name: content for name in names if (content := _content(name)) is not None}
    if not found:
        yield None
        return
    folder = Path(tempfile.mkdtemp(prefix="doord-key-", dir="/run"))
    try:
        for name, content in found.items():
            (folder / name).touch(0o600)
            (folder / name).write_bytes(content)
            os.chown(folder / name, owner.pw_uid, owner.pw_gid)
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        yield str(folder)
    finally:
        shutil.rmtree(folder)


def _content(name: str) -> bytes | None:
    """Of a credential, by root; None: there is none of that name. Raises GalleryKeyError."""
    sealed, kept = _SEALED / f"doord.{name}", _KEPT / f"doord.{name}"
    if not sealed.exists():
        return kept.read_bytes() if kept.exists() else None
    # the option first: with POSIXLY_CORRECT in the environment it would be taken for a file behind the verb
    command = ["systemd-creds", f"--name={name}", "decrypt", str(sealed), "-"]
    try:
        done = subprocess.run(  # noqa: S603  # the system's own, by root
            command, capture_output=True, timeout=_DECRYPT_S, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GalleryKeyError(f"{sealed}: {error}") from None
    if done.returncode:
        why = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise GalleryKeyError(f"{sealed}: can't be decrypted: {why[-1] if why else done.returncode}")
    return done.stdout


@contextlib.contextmanager
def _acting(owner: pwd.struct_passwd, credentials: str | None) -> Iterator[None]:
    """The real user stays root, so that there is a way back."""
    groups, before = os.getgroups(), os.environ.get("CREDENTIALS_DIRECTORY")
    os.setgroups(os.getgrouplist(owner.pw_name, owner.pw_gid))
    os.setegid(owner.pw_gid)
    os.seteuid(owner.pw_uid)
    if credentials is not None:
        os.environ["CREDENTIALS_DIRECTORY"] = credentials
    try:
        yield
    finally:
        if before is not None:
            os.environ["CREDENTIALS_DIRECTORY"] = before
        elif credentials is not None:
            del os.environ["CREDENTIALS_DIRECTORY"]
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)
