"""The systems doord is packaged for: each Python minor on each architecture."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCKS = Path(__file__).resolve().parent / "lock"
GLIBC = "2.34"  # the newest that a wheel is tagged with (cryptography's); Ubuntu 22.04 has 2.35
_OLDER_GLIBC = ("2_31", "2_28", "2_27", "2_26", "2_24", "2_17")  # what wheels are tagged with in the wild


@dataclass(frozen=True, slots=True)
class Target:
    """One Python minor ("3.11") on one architecture, as wheels name it ("aarch64")."""

    python: str
    arch: str

    @property
    def tag(self) -> str:
        """The short form of the Python minor: `py311`."""
        return "py" + self.python.replace(".", "")

    @property
    def lock(self) -> Path:
        """Its lock file."""
        return LOCKS / f"{self.name}.txt"

    @property
    def debian_arch(self) -> str:
        """The architecture as Debian names it."""
        return {"x86_64": "amd64", "aarch64": "arm64"}[self.arch]

    @property
    def name(self) -> str:
        """As files are named: `py311-aarch64`."""
        return f"{self.tag}-{self.arch}"

    @property
    def words(self) -> str:
        """As a person would say it."""
        return f"CPython {self.python} on {self.arch}"

    def platform_options(self) -> list[str]:
        """The wheels this system can use, as pip's options."""
        tags = [GLIBC.replace(".", "_"), *_OLDER_GLIBC]
        platforms = [f"manylinux_{tag}_{self.arch}" for tag in tags] + [f"manylinux2014_{self.arch}"]
        return [option for platform in platforms for option in ("--platform", platform)]


_MINORS = ("3.10", "3.11", "3.12", "3.13")
TARGETS = tuple(Target(minor, arch) for minor in _MINORS for arch in ("x86_64", "aarch64"))


def wheel_name_and_version(wheel: Path) -> tuple[str, str]:
    """The distribution's name, as pip writes it in a requirement, and its version."""
    name, version = wheel.name.split("-")[:2]
    return name.replace("_", "-").lower(), version


def this_machine() -> Target:
    """What to build for here: the newest supported Python in /usr/bin. Raises LookupError: none fits."""
    arch = platform.machine()
    for target in reversed(TARGETS):
        if target.arch == arch and Path(f"/usr/bin/python{target.python}").exists():
            return target
    raise LookupError(
        f"expected Python {_MINORS[0]} to {_MINORS[-1]} in /usr/bin, on x86_64 or aarch64: got none"
    )
