"""A tenth of the long day (soak_run.py): nothing of the daemon grows with the people who come."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from soak_day import VISITORS
from soak_run import Soaked, soak

ATTEMPTS, IDLE_S = 200, 8640
_LET_IN = sum(let_in for _, let_in in VISITORS) / len(VISITORS)


def writes_are_counted(folder: Path) -> bool:
    """Whether the kernel counts what is written there; it does not on a tmpfs."""
    before = Path("/proc/self/io").read_text()
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(os.urandom(1 << 16))
        file.flush()
        os.fsync(file.fileno())
    counted = "write_bytes: "
    return before.split(counted)[1] != Path("/proc/self/io").read_text().split(counted)[1]


@pytest.fixture(scope="module")
def soaked() -> Soaked:
    places = [Path(tempfile.gettempdir()), Path("/var/tmp"), Path.cwd()]
    disk = next((place for place in places if os.access(place, os.W_OK) and writes_are_counted(place)), None)
    assert disk is not None, f"expected a disk whose writes count among {places}, got none"
    with tempfile.TemporaryDirectory(dir=disk) as folder:
        return soak(Path(folder), ATTEMPTS, IDLE_S)


@pytest.mark.slow
def test_the_day_was_as_it_was_meant_to_be(soaked):
    assert soaked.events["AccessGranted"] == ATTEMPTS * _LET_IN
    assert soaked.events["AccessDenied"] == ATTEMPTS * (1 - _LET_IN)
    assert "CameraFault" not in soaked.events
    assert soaked.lost == 0
    assert soaked.heard["event"] == sum(soaked.events.values())
    assert soaked.heard["status"] >= IDLE_S / 60  # a heartbeat each minute


@pytest.mark.slow
@pytest.mark.parametrize("what", ["fds", "threads"])
def test_files_and_threads_are_as_many_as_after_the_first_visits(soaked, what):
    assert {sample[what] for sample in soaked.samples} == {soaked.samples[0][what]}


@pytest.mark.slow
def test_memory_has_grown_by_two_hundredths_at_most(soaked):
    first, last = soaked.samples[0]["rss_kb"], soaked.samples[-1]["rss_kb"]
    assert last <= 1.02 * first, [sample["rss_kb"] for sample in soaked.samples]


@pytest.mark.slow
@pytest.mark.parametrize("what", ["objects", "blocks"])
def test_nothing_is_kept_of_a_visit(soaked, what):
    """Of what Python itself counts: finer than what the kernel sees, and the same on every machine.

    A visit that left one object behind would show as one more each; what is kept of the last thousand
    changes of the relay's line, and of the last hundred grants, is four a visit.
    """
    half = soaked.samples[len(soaked.samples) // 2 :]
    grown = (half[-1][what] - half[0][what]) / (half[-1]["visits"] - half[0]["visits"])
    assert grown < 6, [sample[what] for sample in soaked.samples]


@pytest.mark.slow
def test_a_tenth_of_the_day_writes_a_tenth_of_fifty_megabytes(soaked):
    assert 0 < soaked.written <= 5e6
