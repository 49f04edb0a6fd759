"""Recordings with a known answer, for tests of the tune: numbers, not faces."""

from __future__ import annotations

import numpy as np

from edge.identity.tuning import Recording

SIZE, CROPS = 24, 3


def recording(person, species=None, frames=9, alive=None, seed=0, texture=0.0, person_sign=0.0, size=SIZE):
    """`alive`: what the patterns say (in standard deviations); `texture`: what the other layer says."""
    random = np.random.default_rng([seed, *person.encode(), *(species or "-").encode()])
    rows = random.normal(0, 1, (frames, size)).astype(np.float32)
    rows[:, :4] += (2.0 if species is None else -2.0) if alive is None else alive
    rows[:, 5] += person_sign
    rows[:, -CROPS:] = texture + random.normal(0, 0.5, (frames, CROPS))
    return Recording(person, species, rows, CROPS)


def door(people="abcd", species=("phone", "print"), **more):
    """Everybody, and every attack that shows each of them."""
    return [recording(who, kind, **more) for kind in (None, *species) for who in people]
