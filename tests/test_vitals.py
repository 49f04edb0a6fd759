"""How the unit fares: the kernel's files read, whatever board it is, and figures taken of what happened."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge import vitals
from edge.link import wire
from edge.link.vitals import Vitals
from edge.values import Attempt, Deny, Grant, Observation, Probe, Reason
from edge.vitals import Meter, percentile, rss_mb, temperature_c, throttled

SETTING = wire.Setting(0.7, "m", 1, simulation=True)
STAMP = wire.Stamp.of(1.8e9, bytes(10))


def zones(folder: Path, *found: tuple[str, str]) -> Path:
    for i, (kind, milli) in enumerate(found):
        zone = folder / f"thermal_zone{i}"
        zone.mkdir(parents=True)
        (zone / "type").write_text(f"{kind}\n")
        (zone / "temp").write_text(f"{milli}\n")
    return folder


@pytest.mark.parametrize(
    ("found", "degrees"),
    [
        ([("cpu-thermal", "48312")], 48.3),  # Raspberry Pi
        ([("PMIC-Die", "100000"), ("CPU-therm", "41500"), ("GPU-therm", "43000")], 41.5),  # Jetson
        ([("acpitz", "27800"), ("x86_pkg_temp", "-4000")], -4.0),
        ([("acpitz", "27800"), ("iwlwifi_1", "")], 27.8),
        ([("cpu-thermal", "-274000"), ("soc-thermal", "garbage")], None),
        ([], None),
    ],
)
def test_the_temperature_is_the_processors(tmp_path, found, degrees):
    assert temperature_c(zones(tmp_path / "thermal", *found)) == degrees


@pytest.mark.parametrize(
    ("said", "strains"),
    [
        ("0", []),
        ("50000", []),  # it was under-voltage and throttled since the start, and is not now
        ("50005\n", ["under-voltage", "throttled"]),
        ("f", ["under-voltage", "frequency capped", "throttled", "soft temperature limit"]),
        ("no number", None),
    ],
)
def test_throttling_is_what_a_pis_firmware_says_of_now(tmp_path, said, strains):
    path = tmp_path / "get_throttled"
    path.write_text(said)
    assert throttled(path) == strains


def test_a_board_that_tells_nothing_is_told_as_nothing(tmp_path):
    assert throttled(tmp_path / "none") is None
    assert rss_mb(tmp_path / "none") is None


def test_the_memory_is_this_process_own():
    assert 10 < rss_mb(Path("/proc/self/statm")) < 10_000


@pytest.mark.parametrize(
    ("values", "p50", "p95"),
    [
        ([], None, None),
        ([7.0], 7.0, 7.0),
        ([1.0, 2.0], 1.0, 2.0),
        ([float(i) for i in range(1, 101)], 50, 95),
    ],
)
def test_percentiles_are_values_that_were_measured(values, p50, p95):
    assert (percentile(values, 50), percentile(values, 95)) == (p50, p95)


class Unit:
    """A meter with time and frames as numbers."""

    def __init__(self, root: Path) -> None:
        self.now, self.frames = 100.0, 0
        self.told: list[Vitals] = []
        self.notices: list[tuple[str, str]] = []
        self.meter = Meter(
            lambda: self.frames,
            self.told.append,
            lambda kind, detail: self.notices.append((kind, detail)),
            root,
            lambda: self.now,
        )

    def step(self, seconds: float, frames: int = 0) -> None:
        self.now += seconds
        self.frames += frames
        self.meter.step()


@pytest.fixture
def unit(tmp_path, monkeypatch):
    monkeypatch.setattr(vitals, "_WAIT_S", 0.0)
    return Unit(tmp_path)


def granted(ms: float, distance: float | None = 0.4) -> wire.Event:
    probe = Probe(np.zeros(4, np.float32), "m", 10.0)
    attempt = Attempt(Grant("ada", distance), 9.0, 10.0 + ms / 1000, 2, Observation(10.0, probe), 0.1)
    return wire.attempt_event(attempt, STAMP, SETTING)


def test_it_measures_at_once_and_then_every_ten_seconds(unit):
    unit.step(0)
    unit.step(9.9)
    assert len(unit.told) == 1
    unit.step(0.1)
    assert len(unit.told) == 2
    assert unit.meter.newest is unit.told[-1]


def test_frames_are_counted_between_two_measurements(unit):
    unit.step(0)
    unit.step(10, frames=147)
    unit.step(10)
    assert [told.camera_fps for told in unit.told] == [None, 14.7, 0.0]


def test_the_latency_is_that_of_grants_by_face(unit):
    denied = Attempt(Deny(Reason.NO_MATCH), 9.0, 13.0, 5, Observation(10.0), 0.1)
    for event in (
        granted(40),
        granted(60),
        granted(5, distance=None),
        wire.attempt_event(denied, STAMP, SETTING),
        wire.notice("Started", "x", STAMP, SETTING),
    ):
        unit.meter.note(event)
    unit.step(0)
    assert (unit.told[0].latency_p50_ms, unit.told[0].latency_p95_ms) == (40.0, 60.0)


def test_only_the_last_hundred_grants_count(unit):
    for ms in [900] * 50 + [50] * 100:
        unit.meter.note(granted(ms))
    unit.step(0)
    assert unit.told[0].latency_p95_ms == 50.0


def looks(unit, ms: float, times: int = 20, **more: float) -> None:
    """So many frames, then the measurement."""
    for _ in range(times):
        unit.meter.looked({"detect": 5.0, "align": 1.0, "embed": ms - 6, **more})
    unit.step(10)


def test_a_unit_that_takes_twice_its_best_three_times_on_end_says_so_and_why(unit, tmp_path):
    zones(tmp_path / "sys/class/thermal", ("cpu-thermal", "84200"))
    throttled_file = tmp_path / "sys/devices/platform/soc/soc:firmware/get_throttled"
    throttled_file.parent.mkdir(parents=True)
    throttled_file.write_text("4")
    for ms in (100, 90, 180, 200):
        looks(unit, ms)
    assert unit.notices == []
    looks(unit, 210)
    assert unit.notices == [
        ("UnitSlow", "a frame takes 210 ms (p95), at best 90, 84 degrees C, throttled"),
    ]


def test_a_slow_unit_says_when_it_is_no_longer(unit):
    for ms in (90, 200, 200, 200, 200, 140, 130, 130):
        looks(unit, ms)
    assert [kind for kind, _ in unit.notices] == ["UnitSlow"]
    looks(unit, 120)
    assert unit.notices[1:] == [("UnitRestored", "a frame takes 120 ms (p95), at best 90")]


def test_a_slow_moment_is_chance(unit):
    for ms in (90, 200, 200, 100, 200, 200, 100):
        looks(unit, ms)
    assert unit.notices == []


def test_a_unit_that_was_always_slow_is_not_ill(unit):
    for _ in range(9):
        looks(unit, 2000)
    assert unit.notices == []


def test_too_few_frames_are_waited_for(unit):
    looks(unit, 90)
    for _ in range(5):
        looks(unit, 200, times=4)
    assert unit.notices == []  # 20 slow frames are one measurement
    for _ in range(10):
        looks(unit, 200, times=4)
    assert len(unit.notices) == 1


def test_what_is_not_done_with_every_frame_does_not_count(unit):
    looks(unit, 90)
    for _ in range(3):
        looks(unit, 90, pad=500.0)
        unit.meter.looked({"detect": 4000.0})  # no face
        looks(unit, 90)
    assert unit.notices == []
