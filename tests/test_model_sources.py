"""The build takes models out of pinned packages, from the registry the environment names, or stops."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import sys
import tarfile
from pathlib import Path

import pytest

FILE = Path(__file__).parents[1] / "models" / "build" / "sources.py"


def _load():
    """The build is no part of the installed package: it is read where it lies."""
    spec = importlib.util.spec_from_file_location("models_build_sources", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


sources = _load()
CONTENT = b"a network"


def packed(path: str = "package/model/net.onnx") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        entry = tarfile.TarInfo(path)
        entry.size = len(CONTENT)
        archive.addfile(entry, io.BytesIO(CONTENT))
    return buffer.getvalue()


def member(archive: bytes, content: bytes = CONTENT):
    package = sources.Package("some-package", "1.2.3", hashlib.sha256(archive).hexdigest(), registry="npm")
    return sources.Member(package, "model/net.onnx", hashlib.sha256(content).hexdigest())


@pytest.fixture
def npm(tmp_path: Path, monkeypatch):
    """npm(archive): a command of that name that hands out the archive; its arguments are kept."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def install(archive: bytes | None) -> Path:
        (tmp_path / "archive.tgz").write_bytes(archive or b"")
        last = f'cp {tmp_path}/archive.tgz "$5/some-package-1.2.3.tgz"'
        if archive is None:
            last = 'echo "npm error 404 Not Found" >&2; echo "npm error more" >&2; exit 1'
        script = folder / "npm"
        script.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/arguments\n{last}\n')
        script.chmod(0o755)
        return tmp_path / "arguments"

    return install


def refusal(wanted, cache: Path) -> str:
    with pytest.raises(sources.SourceError) as caught:
        sources.fetch(wanted, cache)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_of_an_npm_package_is_fetched_once_by_npm_itself_without_its_scripts(npm, tmp_path):
    archive = packed()
    arguments = npm(archive)
    cache = tmp_path / "cache"
    assert sources.fetch(member(archive), cache) == CONTENT
    assert sources.fetch(member(archive), cache) == CONTENT
    folder = cache / "some-package-1.2.3"
    assert arguments.read_text().splitlines() == [
        f"pack some-package@1.2.3 --ignore-scripts --pack-destination {folder}"
    ]


def test_another_archive_than_the_pinned_one_is_refused(npm, tmp_path):
    npm(packed("package/else"))
    wanted = member(packed())
    words = refusal(wanted, tmp_path / "cache")
    assert words.startswith("some-package==1.2.3: some-package-1.2.3.tgz: expected sha256")


def test_another_file_than_the_pinned_one_is_refused(npm, tmp_path):
    archive = packed()
    npm(archive)
    words = refusal(member(archive, b"another network"), tmp_path / "cache")
    assert words.startswith("some-package==1.2.3: model/net.onnx: expected sha256")


def test_a_package_without_the_file_is_refused(npm, tmp_path):
    archive = packed("package/else")
    npm(archive)
    assert "model/net.onnx: can't be read" in refusal(member(archive), tmp_path / "cache")


def test_what_npm_says_is_handed_on_in_one_line(npm, tmp_path):
    npm(None)
    words = refusal(member(packed()), tmp_path / "cache")
    assert words == "some-package==1.2.3: npm pack failed: npm error 404 Not Found"


def test_without_npm_the_build_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    words = refusal(member(packed()), tmp_path / "cache")
    assert words == "some-package==1.2.3: expected npm to be installed"
