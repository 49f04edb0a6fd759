"""What has to hold before a GPU is so much as asked about: read from files, no driver is touched."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

# LiteRT's accelerator is compiled for these (its strings name lse, dotprod, fp16, rdm, rcpc, aes, sha2, crc):
# without one of them the process that loads it dies of SIGILL, a Raspberry Pi 4's for one
_NEEDED = {
    "aarch64": frozenset(["atomics", "asimddp", "asimdhp", "asimdrdm", "lrcpc", "aes", "sha2", "crc32"]),
    "x86_64": frozenset[str](),
}
_MANIFESTS = ("etc/vulkan/icd.d", "usr/local/etc/vulkan/icd.d", "usr/local/share/vulkan/icd.d",
              "usr/share/vulkan/icd.d")  # fmt: skip
_NAMED = ("VK_DRIVER_FILES", "VK_ICD_FILENAMES")  # in the environment, in place of the folders


@dataclass(frozen=True, slots=True)
class Conditions:
    """`refusal`: why no GPU is asked about; empty: it may be.

    `drivers`: a digest of which they are, and of whether they may compile into memory, which the unit forbids
    unless its drop-in for a GPU is there.
    """

    refusal: str
    drivers: str = ""


def look(
    root: Path = Path("/"),
    machine: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Conditions:
    """This machine, or what a test puts in its place."""
    machine = machine or platform.machine()
    if machine not in _NEEDED:
        return Conditions(f"no GPU: LiteRT has no accelerator for {machine}")
    lacking = sorted(_NEEDED[machine] - _features(root / "proc/cpuinfo")) if _NEEDED[machine] else []
    if lacking:
        return Conditions(f"no GPU: its library needs a processor with {', '.join(lacking)}")
    manifests = sorted(_manifests(root, os.environ if environment is None else environment))
    if not manifests:
        return Conditions("no GPU: no Vulkan driver is installed")
    return Conditions("", _digest(root, manifests))


def _features(cpuinfo: Path) -> frozenset[str]:
    """Those that every core has."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    cores = [set(words.split()) for name, _, words in (x.partition(":") for x in lines) if "Features" in name]
    return frozenset.intersection(*map(frozenset, cores)) if cores else frozenset()


def _manifests(root: Path, environment: Mapping[str, str]) -> Iterator[Path]:
    named = next((environment[name] for name in _NAMED if environment.get(name)), None)
    if named is not None:
        yield from (path for path in map(Path, named.split(os.pathsep)) if path.is_file())
        return
    for folder in _MANIFESTS:
        yield from (root / folder).glob("*.json")


def _digest(root: Path, manifests: list[Path]) -> str:
    """Of each manifest and the library that it names: where, how large, how old."""
    known = hashlib.sha256(b"may compile\n" if _may_compile() else b"")
    for path in manifests:
        for file in (path, *_libraries(root, path)):
            try:
                about = file.stat()
            except OSError:
                continue
            known.update(f"{file} {about.st_size} {about.st_mtime_ns}\n".encode())
    return known.hexdigest()


def _may_compile() -> bool:
    """Whether memory can be written and run: not under MemoryDenyWriteExecute=."""
    try:
        mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()
    except OSError:
        return False
    return True


def _libraries(root: Path, manifest: Path) -> list[Path]:
    try:
        named = str(json.loads(manifest.read_bytes())["ICD"]["library_path"])
    except (OSError, ValueError, KeyError, TypeError):
        return []
    if "/" in named:
        return [manifest.parent / named]
    return sorted(path for depth in ("", "*/", "*/*/") for path in (root / "usr/lib").glob(depth + named))
