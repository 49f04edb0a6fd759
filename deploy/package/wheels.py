"""Wheels: fetched as the lock file says, doord's own built, unpacked into one folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

from targets import ROOT, Target

_SOURCES = ("edge", "models", "pyproject.toml", "README.md", "LICENSE")
_NOT_SOURCES = shutil.ignore_patterns("__pycache__", "build", "*.egg-info")


def fetch(target: Target, into: Path) -> list[Path]:
    """The wheels of a lock file, each with the hash it has there, in a folder of their own."""
    shutil.rmtree(into, ignore_errors=True)
    pip(
        "download", "--require-hashes", "--no-deps", "--only-binary", ":all:", "--implementation", "cp",
        "--python-version", target.python, *target.platform_options(),
        "--dest", str(into), "--requirement", str(target.lock),
    )  # fmt: skip
    return sorted(into.iterdir())


def own_wheel(work: Path, setuptools: Path, epoch: int) -> Path:
    """doord's wheel, built from a copy of the sources by the pinned setuptools, the same at each build."""
    shutil.rmtree(work, ignore_errors=True)
    sources, backend = work / "sources", work / "backend"
    for name in _SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, sources / name, ignore=_NOT_SOURCES)
        else:
            shutil.copy(ROOT / name, sources / name)
    unpack(setuptools, backend)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(work), str(sources),
        environment={"PYTHONPATH": str(backend), "SOURCE_DATE_EPOCH": str(epoch)})  # fmt: skip
    return next(work.glob("doord-*.whl"))


def unpack(wheel: Path, into: Path) -> None:
    """Unpack a wheel as an installer would (PyPA: binary distribution format), without scripts.

    Raises ValueError: a name leads out of the folder.
    """
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            path = _place(PurePosixPath(member.filename))
            if path is None or member.is_dir():
                continue
            if path.is_absolute() or ".." in path.parts:
                raise ValueError(f"{wheel.name}: leads out of its folder: {member.filename}")
            target = into / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(member))


def _place(path: PurePosixPath) -> PurePosixPath | None:
    """Where a member goes below site-packages; None: nowhere (scripts, headers, data, stray bytecode)."""
    if "__pycache__" in path.parts:
        return None
    if not path.parts[0].endswith(".data"):
        return path
    return PurePosixPath(*path.parts[2:]) if path.parts[1] in ("purelib", "platlib") else None


def pip(*arguments: str, environment: dict[str, str] | None = None) -> None:
    """Run pip; raises CalledProcessError, and what pip said is shown then only."""
    command = [sys.executable, "-m", "pip", arguments[0], "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*command, *arguments[1:]],
        env=os.environ | (environment or {}),
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    if done.returncode:
        print(done.stderr, file=sys.stderr)
    done.check_returncode()
