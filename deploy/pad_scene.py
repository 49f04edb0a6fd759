"""One synthetic attack filmed: what is shown, before which backdrop, frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath

import cv2
import numpy as np
from numpy.typing import NDArray
from pad_motion import Floats, Path, Sheet, bounds, look_at
from pad_optics import Linear, centre_light, defocus_sigma_px, expose, to_linear
from pad_species import SPECIES, Shot
from pad_surface import Object, moire

from edge.evaluate.presentations import frames
from edge.values import Face

Picture = NDArray[np.uint8]
Detect = Callable[[Picture], list[Face]]
WIDTH, HEIGHT = 640, 480
_FINER = 2  # samples a camera pixel, each way, of what is shown
_NEAREST_MM = 120.0
_FACE_PX = (90, 250)  # smaller ones are not found, larger ones leave the frame
_PORTRAIT = 0.72  # width / height of head and shoulders
_BESIDE = 0.6  # a face at least this times as wide as the widest may be the person's


@dataclass(frozen=True)
class Source:
    """A clip or picture of a person, and where the face is in it."""

    person: str
    name: str
    pictures: tuple[Picture, ...]
    fps: float
    face: tuple[float, float, float, float]  # x, y, w, h px
    all_faces: tuple[tuple[float, float, float, float], ...]


def open_source(path: FilePath, person: str, seconds: float, detect: Detect) -> Source | None:
    """A source's first seconds; None when no face is found in it."""
    taken = []
    for frame in frames(path, 30.0):
        if frame.taken_at > seconds:
            break
        taken.append((frame.taken_at, frame.pixels))
    seen = [f for _, p in taken[:: max(1, len(taken) // 8)] if (f := persons_first(detect(p)))]
    if not seen:
        return None
    face = tuple(float(v) for v in np.median([f[0].box for f in seen], axis=0))
    fps = (len(taken) - 1) / taken[-1][0] if len(taken) > 1 else 30.0
    boxes = tuple(f.box for faces in seen for f in faces)
    return Source(person, path.stem, tuple(p for _, p in taken), fps, face, boxes)  # type: ignore[arg-type]


def persons_first(faces: list[Face]) -> list[Face]:
    """The faces of one picture, the person's first: the uppermost large one (others are on clothes)."""
    widest = max((f.box[2] for f in faces), default=0)
    return sorted(faces, key=lambda f: (f.box[2] < _BESIDE * widest, f.box[1]))


def cut_out(source: Source, index: int, widths: float, aspect: float, bars: int) -> tuple[Picture, float]:
    """The head of a frame, filling a width of `aspect` (w / h), and its width in face widths.

    `bars`: what grey is above and below on a surface taller than head and shoulders.
    """
    picture = source.pictures[min(index, len(source.pictures) - 1)]
    height, width = picture.shape[:2]
    x, y, w, h = source.face
    part = max(aspect, _PORTRAIT)
    w_px = min(widths * w, width, height * part)
    h_px = w_px / part
    left = int(np.clip(x + w / 2 - w_px / 2, 0, width - w_px))
    top = int(np.clip(y + h * 0.45 - 0.47 * h_px, 0, height - h_px))
    shown = picture[top : top + round(h_px), left : left + round(w_px)]
    bar = max(0, round((w_px / aspect - h_px) / 2))
    made = cv2.copyMakeBorder(shown, bar, bar, 0, 0, cv2.BORDER_CONSTANT, value=(bars, bars, bars))
    return np.asarray(made, np.uint8), w_px / w


def backdrop(other: Source | None, empty: bool, random: np.random.Generator) -> Sequence[Linear]:
    """What is behind: another's clip with the faces taken out, or with the whole person taken out.

    Without a clip (None) a wall with a few things on it is made up.
    """
    if other is None:
        return [_wall(random)]
    pictures = other.pictures[:1] if empty else other.pictures[::3]
    return [to_linear(_emptied(p, other, empty)) for p in pictures]


def _emptied(picture: Picture, other: Source, whole: bool) -> Picture:
    filled = _fit(picture)
    scale = max(WIDTH / picture.shape[1], HEIGHT / picture.shape[0])
    across, down = (picture.shape[1] * scale - WIDTH) / 2, (picture.shape[0] * scale - HEIGHT) / 2
    hole = np.zeros((HEIGHT, WIDTH), np.uint8)
    for x, y, w, h in (other.face,) if whole else other.all_faces:
        x, y, w, h = x * scale - across, y * scale - down, w * scale, h * scale
        low = HEIGHT if whole else y + 1.2 * h
        side = 1.1 if whole else 0.3  # arms, or hair
        corners = np.clip([x - side * w, y - 0.5 * h, x + (1 + side) * w, low], -1, WIDTH).astype(int)
        cv2.rectangle(hole, tuple(map(int, corners[:2])), tuple(map(int, corners[2:])), 255, -1)
    small = cv2.resize(filled, (WIDTH // 8, HEIGHT // 8), interpolation=cv2.INTER_AREA)
    small = cv2.inpaint(small, cv2.resize(hole, small.shape[1::-1]), 4, cv2.INPAINT_TELEA)
    smooth = cv2.resize(cv2.GaussianBlur(small, (0, 0), 1.5), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    share = cv2.GaussianBlur(hole, (0, 0), 6).astype(np.float32)[..., None] / 255
    return np.asarray(filled * (1 - share) + smooth * share, np.uint8)


def _fit(picture: Picture) -> Picture:
    """640x480 of the middle of a picture."""
    height, width = picture.shape[:2]
    scale = max(WIDTH / width, HEIGHT / height)
    size = max(WIDTH, round(width * scale)), max(HEIGHT, round(height * scale))
    large = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    top, left = (large.shape[0] - HEIGHT) // 2, (large.shape[1] - WIDTH) // 2
    return np.array(large[top : top + HEIGHT, left : left + WIDTH], np.uint8)


def _wall(random: np.random.Generator) -> Linear:
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    light = 0.45 + 0.25 * np.cos((x - random.uniform(0, WIDTH)) / 400) - 0.2 * y / HEIGHT
    wall = light[..., None] * random.uniform(0.85, 1.0, 3).astype(np.float32)
    for _ in range(int(random.integers(3, 8))):
        corner = random.integers(0, [WIDTH, HEIGHT])
        far = corner + random.integers(30, 220, 2)
        colour = tuple(float(c) for c in random.uniform(0.03, 0.6, 3))
        cv2.rectangle(wall, tuple(map(int, corner)), tuple(map(int, far)), colour, -1)
    return np.asarray(wall, np.float32)


def film(shot: Shot, source: Source, other: Source | None, seconds: float, fps: float) -> Iterator[Picture]:
    """The frames (480, 640, 3) RGB of one clip, before JPEG."""
    random = np.random.default_rng([shot.seed, 1])
    return _Scene(shot, source, other, seconds, random).frames(round(seconds * fps), fps)


class _Scene:
    """All that stays the same over a clip."""

    def __init__(
        self, shot: Shot, source: Source, other: Source | None, seconds: float, random: np.random.Generator
    ) -> None:
        self._shot, self._source, self._random = shot, source, random
        surface, camera, kind = shot.surface, shot.camera, SPECIES[shot.species]
        self._video = kind.video
        self._still = int(random.integers(len(source.pictures)))
        self._aspect = surface.width_mm / surface.height_mm
        self._bars = 0 if surface.lit else 255  # a black screen, white paper
        shown = cut_out(source, self._still, shot.shown_faces, self._aspect, self._bars)[1]
        face_px = float(np.clip(source.face[2] * shot.face_size, *_FACE_PX))
        distance = max(_NEAREST_MM, camera.focal_px * surface.width_mm / shown / face_px)
        offset = (np.array(shot.face_at) - 0.5) * (WIDTH, HEIGHT) / camera.focal_px * distance
        middle = np.array([*offset, distance])
        self._path = Path(middle, np.array(shot.angles_deg), shot.motion, seconds, random)
        scale = _FINER * camera.focal_px / distance
        self._object = Object(surface, scale, self._skin(random) if kind.held else None, random)
        self._scale = scale
        self._sheet = Sheet(self._object.half_mm, shot.radius_mm or np.inf, shot.upright)
        self._sigma = defocus_sigma_px(camera, distance) if camera.focus_mm else camera.lens_sigma_px
        blur = shot.backdrop_blur_px
        self._behind = [
            cv2.GaussianBlur(p, (0, 0), blur).astype(np.float32)
            for p in backdrop(other, not kind.held, random)
        ]
        # the exposure that the genuine clip's own camera chose, more or less
        self._well_lit = shot.well_lit * centre_light(to_linear(_fit(source.pictures[0])))
        self._gain = 0.0

    def _skin(self, random: np.random.Generator) -> Linear:
        x, y, w, h = (int(v) for v in self._source.face)
        rows, columns = slice(max(0, y + h // 2), y + h * 3 // 4), slice(max(0, x + w // 3), x + w * 2 // 3)
        cheek = self._source.pictures[0][rows, columns]
        median = np.median(to_linear(cheek).reshape(-1, 3), axis=0) if cheek.size else np.full(3, 0.3)
        return np.asarray(median * random.uniform(0.6, 1.3), np.float32)

    def frames(self, count: int, fps: float) -> Iterator[Picture]:
        for i in range(count):
            scene = self._light(i / fps)
            self._gain = self._gain or self._well_lit / centre_light(scene)
            yield expose(scene, self._gain, self._shot.camera, self._random)

    def _light(self, t: float) -> Linear:
        """(480, 640, 3) what falls on the sensor at t seconds."""
        shot, camera = self._shot, self._shot.camera
        index = round(t * self._source.fps) % len(self._source.pictures) if self._video else self._still
        pose, speed = self._path.at(t), self._path.velocity_px(t, camera.focal_px)
        tilt = (float(np.degrees(pose.turn[0, 2])), float(np.degrees(pose.turn[1, 2])))
        picture, _ = cut_out(self._source, index, shot.shown_faces, self._aspect, self._bars)
        texture = self._object.texture(index, picture, tilt, shot.shading)
        box = bounds(self._sheet, pose, camera.focal_px, (WIDTH, HEIGHT), 6)
        late = speed * camera.row_s
        uv = look_at(self._sheet, pose, camera.focal_px, (WIDTH, HEIGHT), box, _FINER, late)
        fine = self._warped(texture, uv)
        blurred = _smeared(fine, speed * camera.exposure_s * _FINER)
        fine = np.asarray(cv2.GaussianBlur(blurred, (0, 0), self._sigma * _FINER), np.float32)
        left, top, right, bottom = box
        size = (right - left, bottom - top)
        layer = np.asarray(cv2.resize(fine, size, interpolation=cv2.INTER_AREA), np.float32)
        sites = (uv[::2, ::2] + uv[1::2, ::2] + uv[::2, 1::2] + uv[1::2, 1::2]) / 4  # the middle of 2 x 2
        waves = moire(shot.surface.lattice, sites, self._sigma, camera.photosite)
        if waves is not None:
            layer[..., :3] *= waves
        if shot.surface.flicker:
            layer[..., :3] *= self._bands(t, top, bottom)
        scene = self._behind[round(t * 10) % len(self._behind)]  # a clip's every third.copy()
        part = scene[top:bottom, left:right]
        part *= 1 - layer[..., 3:]
        part += layer[..., :3]
        return scene

    def _warped(self, texture: Linear, uv: Floats) -> Linear:
        x = (uv[..., 0] + self._object.half_mm[0]) * self._scale - 0.5
        y = (uv[..., 1] + self._object.half_mm[1]) * self._scale - 0.5
        maps = [np.nan_to_num(m, nan=-9.0).astype(np.float32) for m in (x, y)]
        return np.asarray(cv2.remap(texture, maps[0], maps[1], cv2.INTER_LINEAR), np.float32)

    def _bands(self, t: float, top: int, bottom: int) -> Linear:
        """A backlight's modulation, averaged over the exposure, from row to row."""
        surface, camera = self._shot.surface, self._shot.camera
        depth = surface.flicker * np.sinc(surface.flicker_hz * camera.exposure_s)
        phase = 2 * np.pi * surface.flicker_hz * (t + np.arange(top, bottom) * camera.row_s)
        return np.asarray(1 + depth * np.cos(phase), np.float32)[:, None, None]


def _smeared(fine: Linear, move: Floats) -> Linear:
    """Motion blur along (2,) samples."""
    length = float(np.hypot(*move))
    if length < 1:
        return fine
    side = 2 * int(np.ceil(length / 2)) + 1
    kernel = np.zeros((side, side), np.float32)
    middle, half = side // 2, move / 2
    ends = [tuple(round(middle + s * float(v)) for v in half) for s in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0)
    return np.asarray(cv2.filter2D(fine, -1, kernel / kernel.sum()), np.float32)
