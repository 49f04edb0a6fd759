"""The species of synthetic attacks, and what is drawn at random for each clip: one table, with reasons.

Every range is of what an attacker at an office door has: consumer devices by their data sheets,
office or photo prints, a cheap wide-angle camera, a lit room.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pad_motion import STILL, Motion
from pad_optics import Camera
from pad_surface import Lattice, Surface

Random = np.random.Generator


@dataclass(frozen=True)
class Species:
    """One kind of attack."""

    made_of: str  # tablet, phone, print
    video: bool = False  # the clip is replayed; else one picture of it is shown
    held: bool = True  # in a hand; else on a stand
    shape: str = "flat"  # flat, bent, rotated, moved


SPECIES = {
    "tablet-video-stand": Species("tablet", video=True, held=False),
    "tablet-video-hand": Species("tablet", video=True),
    "tablet-photo-stand": Species("tablet", held=False),
    "tablet-photo-hand": Species("tablet"),
    "phone-video-stand": Species("phone", video=True, held=False),
    "phone-video-hand": Species("phone", video=True),
    "phone-photo-stand": Species("phone", held=False),
    "phone-photo-hand": Species("phone"),
    "print-stand": Species("print", held=False),
    "print-hand": Species("print"),
    "print-bent": Species("print", shape="bent"),
    "print-rotated": Species("print", shape="rotated"),
    "print-moved": Species("print", shape="moved"),
}


@dataclass(frozen=True)
class Shot:
    """Everything that was drawn for one clip; stored beside it."""

    species: str
    source: str
    seed: int
    camera: Camera
    surface: Surface
    motion: Motion
    radius_mm: float | None  # of a bent sheet; below 0: hollow
    upright: bool
    angles_deg: tuple[float, float, float]  # yaw, pitch, roll
    face_size: float  # of the shown face's width in the picture, times the genuine one's
    face_at: tuple[float, float]  # where it is shown, fractions of the frame
    shown_faces: float  # width of what is shown, in widths of the face
    well_lit: float  # the exposure's taste
    shading: float
    backdrop_blur_px: float


# name: active area (mm, upright), pixels an inch, border at sides and ends (mm), whether the border is dark
_TABLETS = (
    ("10.2 in, 2160x1620", (157.0, 208.0), 264, (9.0, 21.0)),
    ("10.5 in, 1920x1200", (141.0, 226.0), 216, (10.0, 10.0)),
    ("10.1 in, 1280x800", (136.0, 217.0), 149, (14.0, 18.0)),
    ("8 in, 1280x800", (108.0, 172.0), 189, (12.0, 18.0)),
    ("9.7 in, 1024x768", (148.0, 197.0), 132, (19.0, 21.0)),
)
_PHONES = (
    ("6.1 in, 2532x1170", (64.6, 139.8), 460, (3.5, 3.5)),
    ("6.1 in, 2400x1080", (64.0, 142.0), 429, (4.0, 5.0)),
    ("6.5 in, 1600x720", (68.0, 151.0), 270, (4.0, 7.0)),
    ("4.7 in, 1334x750", (58.4, 104.0), 326, (4.5, 17.0)),
    ("5.5 in, 1920x1080", (68.0, 121.0), 401, (5.0, 18.0)),
)
# width and height (mm), white border (mm), what the printer is
_PAPERS = (
    ("A4, office laser", (198.0, 285.0), 6.0, "laser"),
    ("A4, inkjet", (200.0, 287.0), 5.0, "ink"),
    ("A5, office laser", (140.0, 200.0), 4.0, "laser"),
    ("20x30 cm, photo", (200.0, 300.0), 0.0, "photo"),
    ("13x18 cm, photo", (127.0, 178.0), 0.0, "photo"),
    ("10x15 cm, photo", (102.0, 152.0), 3.0, "photo"),
)
# ink density's black (10^-D), gamma with dot gain, saturation, gloss, dots a mm
_INKS = {
    "laser": ((0.03, 0.06), (2.1, 2.6), (0.75, 0.95), (0.0, 0.006), (4.0, 6.0)),  # D 1.2 to 1.5, 100-150 lpi
    "ink": ((0.03, 0.08), (2.0, 2.5), (0.7, 0.95), (0.0, 0.003), (12.0, 24.0)),  # plain paper, D 1.1 to 1.5
    "photo": (
        (0.006, 0.02),
        (2.0, 2.3),
        (0.9, 1.1),
        (0.0, 0.03),
        (12.0, 24.0),
    ),  # D 1.7 to 2.2, matt to glossy
}


def draw(species: str, source: str, seed: int, random: Random) -> Shot:
    """One clip's parameters."""
    kind = SPECIES[species]
    radius = random.choice([-1, 1]) * random.uniform(90, 250) if kind.shape == "bent" else None
    return Shot(
        species=species,
        source=source,
        seed=seed,
        camera=_camera(random),
        surface=_print(random) if kind.made_of == "print" else _screen(kind.made_of, random),
        motion=_motion(kind, random),
        radius_mm=None if radius is None else float(radius),  # a face's own radius is some 80 mm
        upright=bool(random.random() < 0.75),
        angles_deg=_angles(kind, random),
        # who wants in comes as near as makes the device fill the view; a genuine face may do that too
        face_size=float(random.uniform(1.0, 1.9)),
        face_at=(float(random.uniform(0.42, 0.58)), float(random.uniform(0.36, 0.5))),
        # from the head alone to head and shoulders; nearer than 1.5 cuts hair and chin
        shown_faces=float(random.uniform(1.5, 3.2)),
        well_lit=float(random.uniform(0.8, 1.25)),
        shading=float(random.normal(0, 0.15)),
        backdrop_blur_px=float(random.uniform(0.8, 3)),
    )


def _camera(random: Random) -> Camera:
    fixed = random.random() < 0.5  # half the cheap cameras have a fixed focus
    return Camera(
        focal_px=float(random.uniform(480, 640)),  # 67 to 53 degrees across
        lens_sigma_px=float(random.uniform(0.35, 0.7)),
        aperture_mm=float(random.uniform(1.0, 1.6)),
        focus_mm=float(random.uniform(600, 1500)) if fixed else 0.0,  # 0: on what is shown
        photosite=float(random.choice([1.0, 1.0, 0.5])),
        full_well=float(np.exp(random.uniform(np.log(16000), np.log(100000)))),
        read_noise=float(random.uniform(2, 5)),
        exposure_s=float(random.choice([1 / 100, 1 / 60, 1 / 50, 1 / 30])),
        row_s=float(random.uniform(0.02, 0.033) / 480),
        sharpen=float(random.uniform(0, 0.8)),
        jpeg_quality=int(random.integers(75, 96)),
    )


def _screen(made_of: str, random: Random) -> Surface:
    models = _TABLETS if made_of == "tablet" else _PHONES
    _, (width, height), ppi, border = models[random.integers(len(models))]
    sideways = made_of == "tablet" and random.random() < 0.3
    if sideways:
        width, height, border = height, width, border[::-1]
    # 150 to 450 cd/m2 against a white sheet under 300 to 500 lux, about 110: as bright to 3 times
    bright = float(np.exp(random.uniform(np.log(0.8), np.log(3.0))))
    # panels are at 6,500 to 8,500 K, the room at 3,500 to 5,500 K; the white balance is for a bit of both
    red, blue = random.uniform(0.88, 1.02), random.uniform(0.98, 1.16)
    black_border = random.random() < 0.8
    rim = float(random.uniform(0.02, 0.05) if black_border else random.uniform(0.6, 0.85))
    return Surface(
        width, height, border, (rim, rim, rim),
        (bright * float(red), bright, bright * float(blue)),
        # 1000:1 of its own, and 0.5 to 2 % of the room's light scattered by glass and panel
        bright / 1000 + float(random.uniform(0.005, 0.02)),
        float(random.uniform(2.0, 2.4)),
        float(random.uniform(0.9, 1.15)),
        float(random.choice([0.04, 0.04, 0.02, 0.008])),  # bare glass, coated, matt foil
        float(random.choice([0.5, 0.5, 12.0])),  # a matt foil blurs it
        Lattice(25.4 / ppi, (0.28, 0.9), (-1 / 3, 0.0, 1 / 3), (0.0, 0.0, 0.0)),
        True,
        # DC-dimmed panels have none; PWM is at 120 to 480 Hz and as deep as 0.9 (OLED)
        float(random.choice([0.0, 0.0, random.uniform(0.1, 0.9)])),
        float(random.choice([120.0, 180.0, 240.0, 480.0])),
    )  # fmt: skip


def _print(random: Random) -> Surface:
    _, (width, height), border, printer = _PAPERS[random.integers(len(_PAPERS))]
    black, gamma, saturation, gloss, dots = _INKS[printer]
    white = random.uniform(0.75, 0.92) * random.uniform(0.8, 1.15)  # paper, and where it stands in the light
    tint = random.uniform(0.95, 1.05, 2)  # bluish optical brighteners to yellowish paper
    return Surface(
        width, height, (border, border), tuple(float(white * t) for t in (tint[0], 1, tint[1])),  # type: ignore[arg-type]
        tuple(float(white * t) for t in (tint[0], 1, tint[1])),  # type: ignore[arg-type]
        float(random.uniform(*black)),
        float(random.uniform(*gamma)),
        float(random.uniform(*saturation)),
        float(random.uniform(*gloss)),
        float(random.uniform(3, 15)),
        # cyan dims red at 15 degrees, magenta green at 75, yellow blue at 0 (DIN 16547)
        Lattice(1 / float(random.uniform(*dots)), (0.5, 0.5), (0.0, 0.0, 0.0), (15.0, 75.0, 0.0)),
        False, 0.0, 0.0,
    )  # fmt: skip


def _motion(kind: Species, random: Random) -> Motion:
    if not kind.held:
        return STILL
    moved = kind.shape == "moved"
    return Motion(
        sway_mm=float(random.uniform(2, 8)),  # arms free; a rested elbow: 2
        sway_deg=float(random.uniform(0.4, 2.0)),
        tremor_mm=float(random.uniform(0.05, 0.4)),
        tremor_deg=float(random.uniform(0.02, 0.15)),
        wave_mm=float(random.uniform(15, 60)) if moved else 0.0,
        wave_deg=float(random.uniform(5, 18)) if moved else 0.0,
        wave_hz=float(random.uniform(0.4, 1.1)) if moved else 0.0,
    )


def _angles(kind: Species, random: Random) -> tuple[float, float, float]:
    if kind.shape == "rotated":
        sign = random.choice([-1, 1], 2)
        yaw, roll = sign[0] * random.uniform(18, 38), sign[1] * random.uniform(5, 25)
        return float(yaw), float(random.normal(0, 5)), float(roll)
    spread = 5 if kind.held else 3
    return tuple(float(v) for v in random.normal(0, spread, 3))  # type: ignore[return-value]
