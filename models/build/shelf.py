"""The manifest as the build sees it: where each file comes from and what it must hash to."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import yaml

from models.build.sources import Member, Package

MODELS = Path(__file__).parents[1]
MANIFEST = MODELS / "manifest.yaml"


@dataclass(frozen=True, slots=True)
class Shipped:
    """One entry of the manifest."""

    file: str
    sha256: str
    source: Member


def entries() -> list[Shipped]:
    """Every model of the manifest that a package is the source of, in its order."""
    manifest = yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))
    return [
        Shipped(
            model["file"],
            model["sha256"],
            Member(
                Package(
                    source["package"],
                    source["version"],
                    source["package_sha256"],
                    registry=source.get("registry", "pypi"),
                ),
                source["file"],
                source["file_sha256"],
            ),
        )
        for model in manifest["models"]
        for source in [model["source"]]
    ]


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def replace(entry: Shipped, content: bytes) -> None:
    """Put a rebuilt model in its place and its sha256 into the manifest, all else untouched."""
    (MODELS / entry.file).write_bytes(content)
    text = MANIFEST.read_text(encoding="utf-8")
    MANIFEST.write_text(text.replace(entry.sha256, digest(content)), encoding="utf-8")
