"""The camera of the synthetic attacks: exposure, Bayer mosaic, noise, gamma, sharpening, JPEG.

Pictures are float32 linear light (H, W, 3) RGB; 1 is a white sheet under the room's light.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Linear = NDArray[np.float32]
Line = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]
_CHANNEL_AT = ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 2))  # RGGB: row, column, channel


@dataclass(frozen=True)
class Camera:
    """One camera and its mood. px are those of the delivered picture, 640 of them across."""

    focal_px: float
    lens_sigma_px: float  # the sharpest it draws; 0.35 to 0.7: MTF50 of cheap lenses with binning
    aperture_mm: float  # entrance pupil: 1.0 to 1.6, an f/2 to f/3 lens of 3 to 4 mm
    focus_mm: float  # what it is focused on; a fixed focus is near the hyperfocal distance
    photosite: float  # 1: binned, the sites touch; 0.5: every second one is skipped
    # electrons at clipping that would make the noise that is left: some 4,000 of a small pixel, times 4 to
    # 25 by the processor's noise reduction. Flat parts of real webcams' pictures have 0.2 to 0.3 grey
    # levels of it after JPEG, and so have these
    full_well: float
    read_noise: float  # electrons
    exposure_s: float
    row_s: float  # from one row to the next: rolling shutter, 20 to 33 ms a frame
    sharpen: float  # unsharp mask of the camera's processor
    jpeg_quality: int


def to_linear(rgb: NDArray[np.uint8]) -> Linear:
    """sRGB 0..255 to linear light 0..1 (IEC 61966-2-1)."""
    return np.asarray(_LINEAR[rgb])


def _curve() -> Linear:
    v = np.arange(256, dtype=np.float32) / 255
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4).astype(np.float32)


_LINEAR = _curve()
_CODES = np.round(  # by square root: fine where the eye is
    255
    * np.where((_t := np.linspace(0, 1, 4096) ** 2) <= 0.0031308, 12.92 * _t, 1.055 * _t ** (1 / 2.4) - 0.055)
).astype(np.uint8)


def to_srgb(linear: Linear) -> NDArray[np.uint8]:
    """Linear light, clipped to 0..1, to sRGB 0..255."""
    place = np.sqrt(np.clip(linear, 0, 1)) * np.float32(len(_CODES) - 1) + np.float32(0.5)
    return np.asarray(_CODES[place.astype(np.int32)])


def defocus_sigma_px(camera: Camera, distance_mm: float) -> float:
    """Standard deviation of the whole blur at a distance: lens and thin-lens circle of confusion."""
    circle = camera.focal_px * camera.aperture_mm * abs(1 / distance_mm - 1 / camera.focus_mm)
    return float(np.hypot(camera.lens_sigma_px, circle / 4))  # a disc's deviation is a quarter of its width


def otf(fx: float, fy: float, sigma_px: float, photosite: float) -> float:
    """what lens and photosite leave of a wave of (fx, fy) cycles/px; below 0: turned round."""
    lens = np.exp(-2 * np.pi**2 * sigma_px**2 * (fx * fx + fy * fy))
    return float(lens * np.sinc(photosite * fx) * np.sinc(photosite * fy))


def centre_light(scene: Linear) -> float:
    """The mean that a centre-weighted automatic exposure goes by; highlights count as 2 at most."""
    height, width = scene.shape[:2]
    y, x = np.mgrid[0:height:8, 0:width:8]
    weight = np.exp(-(((x / width - 0.5) / 0.3) ** 2 + ((y / height - 0.45) / 0.3) ** 2))
    mean = float((np.minimum(scene[::8, ::8].mean(axis=2), 2) * weight).sum() / weight.sum())
    return max(mean, 1e-3)


def expose(scene: Linear, gain: float, camera: Camera, random: np.random.Generator) -> NDArray[np.uint8]:
    """The picture the camera delivers before JPEG: mosaic, shot and read noise, demosaic, sharpening."""
    raw = np.empty(scene.shape[:2], np.float32)
    for row, column, channel in _CHANNEL_AT:
        raw[row::2, column::2] = scene[row::2, column::2, channel]
    electrons = np.clip(raw * np.float32(gain), 0, 1.2) * np.float32(camera.full_well)
    spread = np.sqrt(electrons + np.float32(camera.read_noise**2))
    electrons += spread * random.standard_normal(raw.shape, np.float32)  # Poisson, near enough above 10
    level = np.clip(electrons / np.float32(camera.full_well), 0, 1)
    mosaic = (level * 65535).astype(np.uint16)
    rgb = cv2.cvtColor(mosaic, cv2.COLOR_BayerBG2RGB)  # OpenCV's BG is RGGB by its second row
    picture = to_srgb(rgb.astype(np.float32) / 65535)
    if camera.sharpen > 0:
        soft = cv2.GaussianBlur(picture, (0, 0), 1.0)
        picture = cv2.addWeighted(picture, 1 + camera.sharpen, soft, -camera.sharpen, 0).astype(np.uint8)
    return np.asarray(picture, np.uint8)
