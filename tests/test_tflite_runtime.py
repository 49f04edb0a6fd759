"""The contract of a runtime once more, over tflite-runtime: it needs an older Python and numpy than the rest.

Its environment is made from `tflite_runtime.txt` and kept in `.cache` (or $DOORD_TEST_CACHE).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import subprocess
from pathlib import Path

import edge.models
import pytest

import edge

HERE = Path(__file__).parent
LOCK = HERE / "tflite_runtime.txt"
CACHE = Path(os.environ.get("DOORD_TEST_CACHE", HERE.parent / ".cache")) / "tflite-runtime"
PASSED = 30  # of its tests, at least: a suite that collects nothing proves nothing


def older_python() -> str | None:
    """One that tflite-runtime has wheels for."""
    for name in ("python3.11", "python3.10", "python3"):
        ask = "import sys, ensurepip, venv; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 11))"
        try:
            if subprocess.run([name, "-c", ask], timeout=30, capture_output=True).returncode == 0:
                return name
        except OSError:
            continue
    return None


@pytest.fixture(scope="module")
def python() -> Path:
    """The interpreter of that environment; a minute the first time."""
    base = older_python()
    if base is None:
        pytest.skip("no Python 3.10 or 3.11 with venv: tflite-runtime has no wheel for others")
    CACHE.mkdir(parents=True, exist_ok=True)
    stamp, made = CACHE / "stamp", hashlib.sha256(f"{base} {LOCK.read_text()}".encode()).hexdigest()
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != made:
            subprocess.run([base, "-m", "venv", "--clear", CACHE / "venv"], check=True, timeout=120)
            pip = [CACHE / "venv/bin/pip", "install", "--quiet", "--disable-pip-version-check"]
            got = subprocess.run(
                [*pip, "--only-binary=:all:", "-r", LOCK], capture_output=True, text=True, timeout=300
            )
            if got.returncode:
                pytest.skip(f"pip could not get tflite-runtime: {got.stderr.strip().splitlines()[-1]}")
            stamp.write_text(made)
    return CACHE / "venv/bin/python"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder with `edge` in it and nothing else of this environment, wherever it comes from."""
    found = tmp_path / "path" / "edge"
    found.mkdir(parents=True)
    for item in Path(edge.__file__).parent.iterdir():
        if item.name != "models":
            (found / item.name).symlink_to(item)
    (found / "models").symlink_to(Path(edge.models.__file__).parent)
    return found.parent


def test_tflite_runtime_keeps_the_contract_of_a_runtime(python: Path, package: Path, tmp_path: Path):
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--noconftest", "-c", os.devnull]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(package), "PYTHONDONTWRITEBYTECODE": "1"}
    ran = subprocess.run(
        [*command, "--rootdir", tmp_path, HERE / "test_runtime.py"],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
        cwd=tmp_path,
    )
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]
    passed = int(re.search(r"(\d+) passed", ran.stdout).group(1))
    assert passed >= PASSED, ran.stdout[-2000:]
    assert "skipped" not in ran.stdout or "gcc" in ran.stdout, ran.stdout[-2000:]
