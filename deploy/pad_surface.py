"""What an attacker holds up: a lit screen or a printed sheet, as a texture in light, and its fine grid.

The texture is premultiplied linear RGB and opacity, (h, w, 4) float32, over the whole object and
the fingers around it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from pad_motion import Floats
from pad_optics import Linear, otf

_FINGERS_MM = 26.0  # room around the object
_FAINT = 0.002  # of a wave: below half a grey level


@dataclass(frozen=True)
class Lattice:
    """Lit cells in a periodic grid: a display's sub-pixels, or a printer's screen dots."""

    pitch_mm: float
    cell: tuple[float, float]  # width and height of a lit cell, of the pitch
    at: tuple[float, float, float]  # where R, G and B cells are, of the pitch, across
    angles_deg: tuple[float, float, float]  # of each colour's grid


@dataclass(frozen=True)
class Surface:
    """An object and how it turns picture values into light. 1 is a white sheet in the room's light."""

    width_mm: float  # of the picture area
    height_mm: float
    border_mm: tuple[float, float]  # sides; top and bottom
    border: tuple[float, float, float]  # linear RGB
    white: tuple[float, float, float]  # light of the brightest value, RGB
    black: float  # light of value 0: panel's leak or ink's reflection, and the room's light on it
    gamma: float
    saturation: float
    gloss: float  # of mirrored lamps: 0.04 is bare glass (Fresnel, n = 1.5)
    gloss_blur_mm: float
    lattice: Lattice
    lit: bool  # a screen: the room's light does not shade it
    flicker: float  # depth of the backlight's modulation
    flicker_hz: float


def tone_table(surface: Surface) -> Linear:
    """(256, 3) the light of each picture value."""
    v = (np.arange(256, dtype=np.float64) / 255) ** surface.gamma
    white = np.array(surface.white)
    return (surface.black + v[:, None] * (white - surface.black)).astype(np.float32)


def emitted(picture: NDArray[np.uint8], surface: Surface) -> Linear:
    """(h, w, 3) light of an RGB picture shown."""
    light = np.empty(picture.shape, np.float32)
    for channel, table in enumerate(tone_table(surface).T):
        light[..., channel] = table[picture[..., channel]]
    grey = light @ np.array([0.2126, 0.7152, 0.0722], np.float32)
    return np.asarray(grey[..., None] + np.float32(surface.saturation) * (light - grey[..., None]))


class Object:
    """A surface with its border, fingers and mirrored lamps, at a fixed number of texels a mm."""

    def __init__(
        self, surface: Surface, texels_mm: float, skin: Linear | None, random: np.random.Generator
    ) -> None:
        """`skin` (3,) is the fingers' light; None: it stands by itself."""
        self.surface, self._scale = surface, texels_mm
        room = _FINGERS_MM if skin is not None else 2.0
        self.half_mm = (
            surface.width_mm / 2 + surface.border_mm[0] + room,
            surface.height_mm / 2 + surface.border_mm[1] + room,
        )
        self.size = tuple(round(2 * h * texels_mm) for h in self.half_mm)  # w, h
        self._base = self._blank(room)
        if skin is not None:
            self._fingers(skin, random)
        self._lamps = self._mirrored(random) if surface.gloss > 0 else None

    def _blank(self, room_mm: float) -> Linear:
        base = np.zeros((self.size[1], self.size[0], 4), np.float32)
        inset = round(room_mm * self._scale)
        base[inset : self.size[1] - inset, inset : self.size[0] - inset] = (*self.surface.border, 1)
        return base

    def _fingers(self, skin: Linear, random: np.random.Generator) -> None:
        """Three or four fingertips on two edges, some 16 mm thick (adult hand: 14 to 20 mm)."""
        layer = np.zeros((self.size[1], self.size[0]), np.float32)
        low = random.uniform(0.3, 0.6)
        for side in (0, 1):
            for k in range(3 + int(random.integers(2))):
                y = self.size[1] * low + k * 19 * self._scale
                inward = (_FINGERS_MM + random.uniform(3, 9)) * self._scale
                x0, x1 = (0.0, inward) if side == 0 else (self.size[0], self.size[0] - inward)
                ends = [(round(x0), round(y + random.uniform(-3, 3) * self._scale)), (round(x1), round(y))]
                cv2.line(layer, ends[0], ends[1], 1.0, max(2, round(16 * self._scale)), cv2.LINE_AA)
        soft = cv2.GaussianBlur(layer, (0, 0), max(0.6, 0.8 * self._scale))
        shade = cv2.GaussianBlur(soft, (0, 0), 5 * self._scale)  # rounder at the rim
        colour = skin * (0.45 + 0.55 * np.clip(shade, 0, 1))[..., None]
        self._cover = layer = np.asarray(soft, np.float32)[..., None]
        self._base[..., :3] = self._base[..., :3] * (1 - layer) + colour * layer
        self._base[..., 3:] = np.maximum(self._base[..., 3:], layer)

    _cover: Linear | None = None

    def _mirrored(self, random: np.random.Generator) -> Linear:
        """Windows and lamps behind the camera, 10 to 40 times as bright as a white sheet, in a glass."""
        h, w = self.size[1] // 4 + 1, self.size[0] // 4 + 1
        lamps = np.full((2 * h, 2 * w), random.uniform(0.1, 0.5), np.float32)  # a room as dim as it is
        for _ in range(int(random.integers(0, 4))):
            x, y = random.integers(0, 2 * w), random.integers(0, 2 * h)
            dx, dy = random.uniform(0.05, 0.5) * w, random.uniform(0.05, 0.4) * h
            corner = (int(x + dx), int(y + dy))
            cv2.rectangle(lamps, (int(x), int(y)), corner, float(random.uniform(10, 40)), -1)
        blur = max(0.5, self.surface.gloss_blur_mm * self._scale / 4)
        return np.asarray(cv2.GaussianBlur(lamps, (0, 0), blur) * np.float32(self.surface.gloss))

    def texture(
        self, index: int, picture: NDArray[np.uint8], tilt_deg: tuple[float, float], shading: float
    ) -> Linear:
        """The object showing an RGB picture. `tilt_deg` (yaw, pitch) moves what it mirrors.

        `index` tells pictures apart. `shading`: how much darker a sheet without light of its own is on
        its right than on its left.
        """
        if self._shown is None or self._shown[0] != index:
            self._shown = index, self._showing(picture, shading)
        made: Linear = self._shown[1].copy()
        if self._lamps is None:
            return made
        made[..., :3] += self._glare(tilt_deg)[..., None] * made[..., 3:]
        return made

    _shown: tuple[int, Linear] | None = None

    def _showing(self, picture: NDArray[np.uint8], shading: float) -> Linear:
        made: Linear = self._base.copy()
        w, h = (round(s * self._scale) for s in (self.surface.width_mm, self.surface.height_mm))
        left, top = (self.size[0] - w) // 2, (self.size[1] - h) // 2
        how = cv2.INTER_AREA if w < picture.shape[1] else cv2.INTER_CUBIC
        light = emitted(np.asarray(cv2.resize(picture, (w, h), interpolation=how), np.uint8), self.surface)
        area = made[top : top + h, left : left + w, :3]
        cover = 0 if self._cover is None else self._cover[top : top + h, left : left + w]
        area[:] = area * cover + light * (1 - cover)
        if not self.surface.lit:
            fall = np.linspace(1 + shading / 2, 1 - shading / 2, self.size[0], dtype=np.float32)
            made[..., :3] *= fall[:, None]
        made[..., :3] *= made[..., 3:]
        return made

    def _glare(self, tilt_deg: tuple[float, float]) -> Linear:
        """A mirror's picture moves by twice its tilt: over a lamp 2 m away, 70 mm a degree."""
        assert self._lamps is not None
        h, w = self._lamps.shape
        move = [70 * d * self._scale / 4 for d in tilt_deg]
        matrix = np.array([[1, 0, -w / 4 + move[0]], [0, 1, -h / 4 + move[1]]], np.float32)
        part = cv2.warpAffine(self._lamps, matrix, (w // 2, h // 2), borderMode=cv2.BORDER_REFLECT)
        return np.asarray(cv2.resize(part, self.size, interpolation=cv2.INTER_LINEAR))


def moire(lattice: Lattice, uv: Floats, sigma_px: float, photosite: float) -> NDArray[np.float32] | None:
    """(h, w, 3) what a camera's samples make of a lattice, 1 in the mean; None: nothing.

    `uv` (h, w, 2) mm under each photosite. Each wave of the grid's Fourier series is dimmed by the
    camera's OTF at its true frequency and then sampled at the sites: its alias, exactly, as far as
    the picture shown changes slowly over a cell and perspective over the object.
    """
    y, x = uv.shape[0] // 2, uv.shape[1] // 2
    jacobian = np.stack([uv[y, x] - uv[y, x - 1], uv[y, x] - uv[y - 1, x]], axis=1) / lattice.pitch_mm
    made: NDArray[np.float32] | None = None
    for channel in range(3):
        turn = np.radians(lattice.angles_deg[channel])
        rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        grid = None
        for across, along, size in _waves(lattice, rotation @ jacobian, sigma_px, photosite):
            if grid is None:
                grid = uv @ rotation.T / lattice.pitch_mm
            phase = across * (grid[..., 0] - lattice.at[channel]) + along * grid[..., 1]
            made = np.ones((*uv.shape[:2], 3), np.float32) if made is None else made
            made[..., channel] += (size * np.cos(2 * np.pi * np.nan_to_num(phase))).astype(np.float32)
    return made


def _waves(
    lattice: Lattice, per_px: Floats, sigma_px: float, photosite: float
) -> Iterator[tuple[int, int, float]]:
    """Numbers of waves across and along, and what is left of each one's amplitude."""
    if not np.isfinite(per_px).all():
        return
    for across in range(5):
        for along in range(-4 if across else 1, 5):
            fx, fy = np.array([across, along]) @ per_px
            whole = 2 * np.sinc(across * lattice.cell[0]) * np.sinc(along * lattice.cell[1])
            left = float(whole) * otf(float(fx), float(fy), sigma_px, photosite)
            if abs(left) > _FAINT:
                yield across, along, left
