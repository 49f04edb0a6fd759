"""A site's records, as an admin's machine keeps them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge.admin.checks import stored_vector
from edge.admin.model import Door, Person, PersonTemplate, Site
from edge.admin.records import Records

NOW = "2026-01-02T03:04:05Z"
MODEL = "facenet-a"
DIMENSION = 8


def at(distance: float, plane: int = 0) -> np.ndarray:
    """A unit vector of 8 numbers, `distance` from at(0) of the same plane; planes are 1.41 apart."""
    vector = np.zeros(DIMENSION, np.float32)
    angle = 2 * np.arcsin(distance / 2)
    vector[2 * plane : 2 * plane + 2] = np.cos(angle), np.sin(angle)
    return vector


def new_records(folder: Path, **changes: object) -> Records:
    settings = {
        "site": "hq",
        "time_zone": "Europe/Berlin",
        "broker_host": "broker.example",
        "broker_port": 8883,
        "model": MODEL,
        "dimension": DIMENSION,
        "site_key": b"s" * 32,
        "card_key": b"c" * 32,
    }
    records = Records.create(folder / "records.db", b"k" * 32)
    records.put_site(Site(**{**settings, **changes}))
    return records


def person(subject: str, *vectors: np.ndarray, **more: object) -> Person:
    templates = [PersonTemplate(stored_vector(vector), MODEL, NOW) for vector in vectors]
    return Person(subject=subject, added_at_utc=NOW, templates=templates, **more)


def door(name: str, face_only: bool = True, retired_at_utc: str | None = None) -> Door:
    return Door(name, NOW, b"e" * 32, {}, 1, face_only, retired_at_utc)
