"""Pin every wheel a door needs, with its hash: one lock file per Python minor and architecture.

    python deploy/package/pin.py [--upgrade]

Asks the package index through pip's and uv's own configuration; `uv` must be installed. Pins that
stand in a lock file already are kept as long as pyproject.toml allows them; --upgrade takes the newest.
Each package has one hash, that of the one wheel pip takes on that system: no source is ever built.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from targets import GLIBC, LOCKS, ROOT, TARGETS, Target, wheel_name_and_version


def main() -> int:
    """Write every lock file again."""
    parser = argparse.ArgumentParser(description="pin the wheels of every Python and architecture")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions allowed")
    upgrade = parser.parse_args().upgrade
    for target in TARGETS:
        target.lock.write_text(lock(target, upgrade=upgrade))
        print(target.lock.relative_to(ROOT))
    return 0


def lock(target: Target, *, upgrade: bool) -> str:
    """The text of one lock file, in the format of `pip install --require-hashes -r`."""
    with tempfile.TemporaryDirectory() as folder:
        resolved = Path(folder, "resolved.txt")
        if target.lock.exists() and not upgrade:
            resolved.write_text(target.lock.read_text())  # uv keeps what it finds in its output file
        resolve(target, resolved)
        wheels = Path(folder, "wheels")
        download(target, resolved, wheels)
        head = f"# {target.words}, glibc >= {GLIBC}. Made by deploy/package/pin.py from pyproject.toml.\n"
        return head + "".join(pins(wheels))


def resolve(target: Target, into: Path) -> None:
    """Let uv choose the versions for a system that is not this one; its markers are that system's."""
    platform = f"{target.arch}-manylinux_{GLIBC.replace('.', '_')}"
    run("uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--generate-hashes",
        "--no-build", "--no-python-downloads", "--extra", "gpio",
        "--constraints", str(LOCKS / "constraints.txt"),
        "--python-version", target.python, "--python-platform", platform,
        "--output-file", str(into), str(ROOT / "pyproject.toml"))  # fmt: skip


def download(target: Target, requirements: Path, into: Path) -> None:
    """Fetch exactly the wheels pip would take on the target, their hashes checked, into a folder."""
    run(sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "--no-deps",
        "--only-binary", ":all:", "--implementation", "cp", "--python-version", target.python,
        *target.platform_options(), "--dest", str(into), "--requirement", str(requirements))  # fmt: skip


def pins(wheels: Path) -> Iterator[str]:
    """One requirement and one hash for each wheel of a folder, by name."""
    for wheel in sorted(wheels.iterdir(), key=wheel_name_and_version):
        name, version = wheel_name_and_version(wheel)
        yield f"{name}=={version} \\\n    --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


def run(*command: str) -> None:
    """Run a tool that speaks for itself on stderr; raises CalledProcessError."""
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    subprocess.run(command, check=True, timeout=1800, env=environment)


if __name__ == "__main__":
    sys.exit(main())
