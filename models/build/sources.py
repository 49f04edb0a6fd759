"""Fetch pinned packages from the package registries and check every byte that is used.

pip and npm fetch them, from the registries the environment names. Packages are only unpacked,
never installed: of a package's content one file is read.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Registry = Literal["pypi", "npm"]


class SourceError(RuntimeError):
    """A package can't be fetched, or it is not the one that was pinned."""


@dataclass(frozen=True, slots=True)
class Package:
    """One archive of a registry: name, version and the sha256 of the archive."""

    name: str
    version: str
    sha256: str
    pip_options: tuple[str, ...] = ()
    registry: Registry = "pypi"

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"


@dataclass(frozen=True, slots=True)
class Member:
    """One file inside a package's archive; the top folder of an sdist or of npm's is left out of `path`."""

    package: Package
    path: str
    sha256: str


_PORTRAITS = Package(
    "face-recognition", "1.3.0", "5e5efdd1686aa566af0d3cc1313b131e4b197657a8ffd03669e6d3fad92705ec"
)
_ASTRONAUT = Package(
    "scikit-image",
    "0.25.2",
    "a17e17eb8562660cc0d31bb55643a4da996a81944b82c54805c91b3fe66f4824",
    # the picture is the same in every wheel; one is pinned so that one sha256 can be
    ("--only-binary=:all:", "--python-version=3.12", "--platform=manylinux2014_x86_64"),
)

ASTRONAUT = Member(
    _ASTRONAUT,
    "skimage/data/astronaut.png",
    "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
)

# Pictures the calibration sees: public-domain portraits (US government works) from packages.
_PORTRAIT_FILES = {
    "32bit.png": "44dca895a7d635a4aedddd91a4f37af9a8a5b44e66154282a24645a757b5f627",
    "biden.jpg": "3c17508bb91554c637a2eabddfae790e5bb1caba93130814fc2ac50be9760c4c",
    "obama.jpg": "0930e3aa8cae5920329c0c8cbc6a2ab70f47b0e67b432875beaa95cbf7e741f6",
    "obama2.jpg": "a7efcc907375274796f39646510704aa86672d59f6d5469d69af3c85590976a6",
    "obama3.jpg": "76ac6bf97c36dc2da0ad16a537d6a5ac1b10f48d49aac29a0cca9a17cdbc3ca3",
    "obama_partial_face.jpg": "c2d1f09e7ef3042352b41e41286e6eb0522f64f88308be13886991b95db52117",
    "obama_partial_face2.jpg": "9a812347f97633542b8cd9992de22def11b74f79d82056bc3ee830f13878e028",
}
PICTURES = (
    *(Member(_PORTRAITS, f"tests/test_images/{name}", digest) for name, digest in _PORTRAIT_FILES.items()),
    ASTRONAUT,
)


def fetch(member: Member, cache: Path) -> bytes:
    """The content of a pinned file; its package is downloaded into `cache` when not there yet.

    Raises:
        SourceError: not to be had, or a sha256 that differs, of the package or the file.
    """
    archive = _archive(member.package, cache)
    content = _read_member(archive, member)
    _check(f"{member.package}: {member.path}", content, member.sha256)
    return content


def _archive(package: Package, cache: Path) -> Path:
    folder = cache / f"{package.name}-{package.version}"
    if not (folder.is_dir() and any(folder.iterdir())):
        _download(package, folder)
    archive = next(folder.iterdir())
    _check(f"{package}: {archive.name}", archive.read_bytes(), package.sha256)
    return archive


def _download(package: Package, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if package.registry == "npm":
        _npm(package, folder)
    else:
        _pip_pinned(package, folder)


def _npm(package: Package, folder: Path) -> None:
    """Let npm fetch the archive as it is published; none of its scripts is run."""
    npm = shutil.which("npm")
    if npm is None:
        raise SourceError(f"{package}: expected npm to be installed")
    at_version = f"{package.name}@{package.version}"
    command = [npm, "pack", at_version, "--ignore-scripts", "--pack-destination", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if line.startswith("npm error")]
        raise SourceError(f"{package}: npm pack failed: {(errors or ['no reason given'])[0]}")


def _pip_pinned(package: Package, folder: Path) -> None:
    """Let pip fetch the archive; with --require-hashes it runs nothing of a wrong one."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as pinned:
        pinned.write(f"{package} --hash=sha256:{package.sha256}\n")
        pinned.flush()
        _pip(package, ["--dest", str(folder), "--requirement", pinned.name])


def _pip(package: Package, arguments: Sequence[str]) -> None:
    options = ["--no-deps", "--require-hashes", "--no-build-isolation", *package.pip_options]
    command = [sys.executable, "-m", "pip", "download", "--quiet", *options, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    got = re.search(r"Got\s+([0-9a-f]{64})", done.stderr)
    if got:
        raise SourceError(_differs(str(package), package.sha256, got[1]))
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    raise SourceError(f"{package}: pip download failed: {(errors or ['no reason given'])[-1]}")


def _read_member(archive: Path, member: Member) -> bytes:
    try:
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as wheel:
                return wheel.read(member.path)
        top = "package" if archive.suffix == ".tgz" else archive.name.removesuffix(".tar.gz")
        with tarfile.open(archive) as packed:
            file = packed.extractfile(f"{top}/{member.path}")
            if file is None:
                raise KeyError(member.path)
            return file.read()
    except (KeyError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise SourceError(f"{member.package}: {member.path}: can't be read: {error}") from None


def _check(what: str, content: bytes, expected: str) -> None:
    got = hashlib.sha256(content).hexdigest()
    if got != expected:
        raise SourceError(_differs(what, expected, got))


def _differs(what: str, expected: str, got: str) -> str:
    return f"{what}: expected sha256 {expected}, got {got}"
