"""Where a shown plane or bent sheet is at each moment, and what of it each camera pixel sees.

Camera coordinates in mm: x right, y down, z away. A sheet has (u, v) in mm, (0, 0) in its middle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
_GRID_S = 1 / 240


@dataclass(frozen=True)
class Motion:
    """How an object is moved. A hand at rest: posture sways, muscles tremble."""

    sway_mm: float  # root mean square below 1 Hz
    sway_deg: float
    tremor_mm: float  # root mean square at 8 to 12 Hz: physiological tremor (Deuschl et al. 1998)
    tremor_deg: float
    wave_mm: float  # amplitude of a deliberate movement, 0: none
    wave_deg: float
    wave_hz: float


STILL = Motion(0, 0, 0, 0, 0, 0, 0)


@dataclass(frozen=True)
class Pose:
    """Where a sheet is: its middle (3,) mm, and its turn (3, 3), sheet to camera coordinates."""

    middle: Floats
    turn: Floats


def band_noise(seconds: float, low_hz: float, high_hz: float, random: np.random.Generator) -> Floats:
    """(n,) samples, 240 a second, of Gaussian noise between two frequencies, root mean square 1."""
    n = max(64, round((seconds + 2) / _GRID_S))
    frequencies = np.fft.rfftfreq(n, _GRID_S)
    # within the band 1/f in amplitude: slow drifts are the wide ones
    weight = np.where((frequencies >= low_hz) & (frequencies <= high_hz), 1 / np.maximum(frequencies, 0.1), 0)
    spectrum = weight * np.exp(2j * np.pi * random.random(len(frequencies)))
    wave = np.fft.irfft(spectrum, n)
    return np.asarray(wave / max(float(wave.std()), 1e-12))


class Path:
    """An object's poses over time: around `middle` (mm) and `angles` (yaw, pitch, roll, degrees)."""

    def __init__(
        self, middle: Floats, angles: Floats, motion: Motion, seconds: float, random: np.random.Generator
    ) -> None:
        """The whole movement is drawn here; `at` only looks it up."""
        self._middle, self._angles = middle, angles
        sway = [band_noise(seconds, 0.2, 1.5, random) for _ in range(6)]
        tremor = [band_noise(seconds, 8, 12, random) for _ in range(6)]
        t = np.arange(len(sway[0])) * _GRID_S
        phases = random.random(6) * 2 * np.pi
        share = np.array([1, 0.5, 0.6, 1, 0.5, 0.4])  # of a deliberate movement, by axis
        sways = np.repeat([motion.sway_mm, motion.sway_deg], 3)
        tremors = np.repeat([motion.tremor_mm, motion.tremor_deg], 3)
        wave = np.repeat([motion.wave_mm, motion.wave_deg], 3) * share
        self._offsets = np.stack(
            [
                sways[i] * sway[i]
                + tremors[i] * tremor[i]
                + wave[i] * np.sin(2 * np.pi * motion.wave_hz * t + phases[i])
                for i in range(6)
            ]
        )

    def at(self, t: float) -> Pose:
        """The pose at t seconds."""
        place = t / _GRID_S
        six = np.array([np.interp(place, np.arange(len(o)), o) for o in self._offsets])
        return Pose(self._middle + six[:3], turned(*(self._angles + six[3:])))

    def velocity_px(self, t: float, focal_px: float) -> Floats:
        """(2,) px/s of the object's middle in the picture."""
        dt = 1 / 60
        middles = [self.at(moment).middle for moment in (max(0.0, t - dt), t + dt)]
        before, after = (m[:2] / m[2] * focal_px for m in middles)
        return np.asarray((after - before) / (min(t, dt) + dt))


def turned(yaw_deg: float, pitch_deg: float, roll_deg: float) -> Floats:
    """(3, 3): roll in the picture, then pitch, then yaw."""
    y, p, r = np.radians([yaw_deg, pitch_deg, roll_deg])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    about_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return np.asarray(about_y @ about_x @ about_z)


@dataclass(frozen=True)
class Sheet:
    """A flat plane, or one bent about an upright (or lying) axis to a cylinder."""

    half_mm: tuple[float, float]  # half width, half height along the sheet
    radius_mm: float = np.inf  # > 0: the edges bend away from the camera, as of a face; < 0: towards it
    upright: bool = True  # the cylinder's axis

    def points(self, uv: Floats) -> Floats:
        """(N, 3) mm in the sheet's own coordinates of (N, 2) (u, v)."""
        if not np.isfinite(self.radius_mm):
            return np.column_stack([uv, np.zeros(len(uv))])
        around, along = (uv[:, 0], uv[:, 1]) if self.upright else (uv[:, 1], uv[:, 0])
        x = self.radius_mm * np.sin(around / self.radius_mm)
        z = self.radius_mm * (1 - np.cos(around / self.radius_mm))
        return np.column_stack([x, along, z] if self.upright else [along, x, z])

    def seen(self, origin: Floats, rays: Floats) -> Floats:
        """(..., 2) the (u, v) that rays (..., 3) from `origin` meet; NaN where they miss."""
        if not np.isfinite(self.radius_mm):
            reach = -origin[2] / rays[..., 2]
            return np.asarray((origin + reach[..., None] * rays)[..., :2])
        across, along = (0, 1) if self.upright else (1, 0)
        radius, ox, oz = self.radius_mm, origin[across], origin[2] - self.radius_mm
        dx, dz = rays[..., across], rays[..., 2]
        a, b, c = dx * dx + dz * dz, ox * dx + oz * dz, ox * ox + oz * oz - radius**2
        with np.errstate(invalid="ignore"):
            root = np.sqrt(b * b - a * c)
        reach = (-b - np.sign(radius) * root) / a  # the side that is turned to the camera
        around = np.arctan2((ox + reach * dx) * np.sign(radius), -(oz + reach * dz) * np.sign(radius))
        other = origin[along] + reach * rays[..., along]
        pair = [radius * around, other] if self.upright else [other, radius * around]
        return np.stack(pair, axis=-1)


def bounds(
    sheet: Sheet, pose: Pose, focal_px: float, size: tuple[int, int], room: int
) -> tuple[int, int, int, int]:
    """left, top, right, bottom px of what a sheet covers of a picture of `size` (w, h), and `room` around."""
    side = np.linspace(-1, 1, 9)
    uv = np.stack(np.meshgrid(side * sheet.half_mm[0], side * sheet.half_mm[1]), axis=-1).reshape(-1, 2)
    there = sheet.points(uv) @ pose.turn.T + pose.middle
    px = there[:, :2] / np.maximum(there[:, 2:], 1) * focal_px + np.array(size) / 2
    low, high = np.floor(px.min(axis=0)).astype(int) - room, np.ceil(px.max(axis=0)).astype(int) + room
    left, top = (int(v) // 2 * 2 for v in np.clip(low, 0, size))
    right, bottom = (int(v) for v in np.clip(high, 0, size))
    return left, top, right, bottom


def look_at(
    sheet: Sheet,
    pose: Pose,
    focal_px: float,
    size: tuple[int, int],
    box: tuple[int, int, int, int],
    finer: int,
    shift_px_a_row: Floats,
) -> Floats:
    """(h * finer, w * finer, 2) the (u, v) mm each sample of a box sees.

    `shift_px_a_row` (2,): how far the object has moved when the next row is read (rolling shutter).
    """
    left, top, right, bottom = box
    x = left + (np.arange((right - left) * finer) + 0.5) / finer
    y = top + (np.arange((bottom - top) * finer) + 0.5) / finer
    later = (y - size[1] / 2)[:, None]
    rays = np.empty((len(y), len(x), 3), np.float32)  # 0.01 mm in 1,000: enough for a lattice
    rays[..., 0] = (x[None] - later * shift_px_a_row[0] - size[0] / 2) / focal_px
    rays[..., 1] = (y[:, None] - later * shift_px_a_row[1] - size[1] / 2) / focal_px
    rays[..., 2] = 1
    turn = pose.turn.astype(np.float32)
    return sheet.seen((-turn.T @ pose.middle).astype(np.float32), rays @ turn)
