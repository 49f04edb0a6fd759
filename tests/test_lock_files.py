"""The lock files a package is built from pin what pyproject.toml asks for, and nothing by halves."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = ROOT / "pyproject.toml"
sys.path.insert(0, str(ROOT / "deploy" / "package"))
if not PYPROJECT.exists() or not (ROOT / "deploy").exists():
    pytest.skip("needs the repository", allow_module_level=True)

from targets import TARGETS, Target  # noqa: E402

PIN = re.compile(r"([a-z0-9-]+)==([^ ]+) \\\n    --hash=sha256:([0-9a-f]{64})\n")
every_target = pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.lock.stem)


def pins(target: Target) -> dict[str, str]:
    head, _, body = target.lock.read_text().partition("\n")
    assert head.startswith(f"# {target.words}, glibc")
    found = list(PIN.finditer(body))
    assert "".join(pin.group() for pin in found) == body, "each line is a version and one hash"
    return {pin[1]: pin[2] for pin in found}


def asked_for() -> list[Requirement]:
    text = PYPROJECT.read_text()
    parts = [re.search(rf"^{name} = (\[.*?\])", text, re.M | re.S) for name in ("dependencies", "gpio")]
    lines = [line for part in parts if part for line in re.findall(r'"([^"]+)"', part[1])]
    return [Requirement(line) for line in lines]


def environment(target: Target) -> dict[str, str]:
    return {"python_version": target.python, "platform_machine": target.arch, "sys_platform": "linux"}


def test_there_is_one_lock_file_for_each_python_and_architecture_and_no_other() -> None:
    locks = {path.name for path in TARGETS[0].lock.parent.glob("py*.txt")}
    assert locks == {f"py3{minor}-{arch}.txt" for minor in (10, 11, 12, 13) for arch in ("x86_64", "aarch64")}


@every_target
def test_a_lock_file_pins_every_dependency_at_a_version_pyproject_allows(target: Target) -> None:
    pinned = pins(target)
    wanted = [need for need in asked_for() if not need.marker or need.marker.evaluate(environment(target))]
    assert len(wanted) >= 11
    for need in wanted:
        assert need.specifier.contains(pinned[need.name], prereleases=True), f"{need} against {target.lock}"


def test_both_architectures_of_a_python_get_the_same_versions() -> None:
    for x86_64, aarch64 in zip(TARGETS[::2], TARGETS[1::2], strict=True):
        assert pins(x86_64) == pins(aarch64)
