"""A site's people, rights and keys for tests: made from a seed."""

from __future__ import annotations

import numpy as np

from edge.identity.shards import PeopleManifest, shard_of
from edge.values import Template

MODEL = "facenet-a"
NOW = "2026-01-02T03:04:05Z"
SITE_KEY, CARD_KEY = b"s" * 32, b"c" * 32


def vectors(count: int, dimension: int, seed: int = 1) -> np.ndarray:
    """(count, dimension) float32, unit L2 norm rows."""
    found = np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def templates(people: int, each: int = 2, dimension: int = 16, seed: int = 1) -> list[Template]:
    """`each` templates of p-0, p-1 …"""
    rows = vectors(people * each, dimension, seed)
    return [Template(f"p-{i // each}", row, MODEL, NOW) for i, row in enumerate(rows)]


def manifest_of(rows: list[Template], shards: int, dimension: int = 16) -> PeopleManifest:
    """What describes them."""
    return PeopleManifest(1, MODEL, dimension, shards, len({row.subject for row in rows}), len(rows), "")


def in_shard(rows: list[Template], index: int, shards: int) -> list[Template]:
    """Those of one shard."""
    return [row for row in rows if shard_of(row.subject, shards) == index]
