"""What a tune at the door is worth: some people's clips and attacks to fit to, all others' to judge.

    .venv/bin/python deploy/measure_pad_tune.py FOLDER --fit eat,hungry [--refilmed]

FOLDER is what `deploy/pad_attacks.py CLIPS FOLDER --by-face` made. Fitted as `doord pad fit` does, to the
genuine clips and the attacks of the people of --fit; judged on the first attempt (3 frames, 0.25 s apart)
of all that shows anybody else. A frame counts when the face the door asks about, whose gallery has all these
people, is near enough to the person's own.

`--refilmed` is the harder question: genuine clips went through a codec of their own and attacks through
the synthetic camera, which a fit could learn instead of skin. So the genuine ones are filmed by the same
camera too (lens, mosaic, noise, sharpening, JPEG; what it cost them once before they keep).
"""

from __future__ import annotations

import argparse
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from measure_pad import Door, is_of
from numpy.typing import NDArray
from pad_optics import expose, to_linear
from pad_species import draw

from edge.config import ModelsConfig, PadConfig, QualityConfig
from edge.evaluate.presentations import Presentation, frames, open_presentations
from edge.identity.tuning import Recording, Tuning, tune
from edge.liveness import load_texture
from edge.progress import bar
from edge.shares import Share
from edge.values import Frame, read_only
from edge.vision.pipeline import Pipeline
from edge.vision.tuned import features

_FRAMES = 6  # of a presentation: two attempts
_SECONDS = 2.5


@dataclass(frozen=True)
class Seen:
    """A presentation's frames that count."""

    shown: Presentation
    recording: Recording | None  # None: fewer than an attempt


def refilmed(shown: Presentation) -> Iterator[Frame]:
    """A clip's frames as the camera of the synthetic attacks would have delivered them."""
    random = np.random.default_rng(zlib.crc32(f"refilmed/{shown.path.stem}".encode()))
    camera = draw("tablet-video-hand", shown.path.name, 1, random).camera
    quality = [cv2.IMWRITE_JPEG_QUALITY, camera.jpeg_quality]
    for frame in frames(shown.path, 30.0):
        light = cv2.GaussianBlur(to_linear(frame.pixels), (0, 0), camera.lens_sigma_px)
        rgb = expose(np.asarray(light, np.float32), 1.0, camera, random)
        _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), quality)
        again = np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), np.uint8)
        yield Frame(read_only(np.asarray(cv2.cvtColor(again, cv2.COLOR_BGR2RGB), np.uint8)), frame.taken_at)


class Recorder:
    """The door's eyes and the two layers."""

    def __init__(self, again: bool, fps: float) -> None:
        gate = QualityConfig()
        self._door = Door(Pipeline.load(ModelsConfig(), gate), gate)
        self._again, self._fps = again, fps
        self.texture = load_texture(ModelsConfig())

    def enrol(self, everybody: Sequence[Presentation]) -> None:
        """Everybody of the genuine clips."""
        self._door.enrol(everybody, self._fps)

    def see(self, shown: Presentation) -> Seen:
        """What counts of a presentation."""
        person = self._door.people.get(shown.person)
        if person is None:
            return Seen(shown, None)  # nobody is enrolled whom the attack could be taken for
        rows: list[NDArray[np.float32]] = []
        due = 0.0
        taken = refilmed(shown) if self._again and shown.species is None else frames(shown.path, self._fps)
        for frame in taken:
            if frame.taken_at > _SECONDS or len(rows) == _FRAMES:
                break
            if frame.taken_at < due - 1e-3:
                continue
            look = self._door(frame.pixels)
            if look.face is None or look.probe is None or not is_of(look.probe, person):
                continue
            made = features(frame.pixels, look.face, self.texture)
            if made is not None:
                rows.append(made)
                due = frame.taken_at + 0.25
        if len(rows) < PadConfig().frames:
            return Seen(shown, None)
        crops = len(self.texture.scales)
        return Seen(shown, Recording(shown.person, shown.species, np.stack(rows), crops))


def table(seen: Sequence[Seen], tuning: Tuning, untuned_live: float) -> list[str]:
    """Of people who were not fitted to: passes, untuned and tuned; species worst first by the tuned."""
    each = PadConfig().frames
    rows: dict[str | None, list[tuple[bool, bool] | None]] = {}
    for one in seen:
        found = None
        if one.recording is not None:
            tuned = float(tuning.model(one.recording.features[:each]).mean())
            found = (_texture(one.recording) >= untuned_live, tuned >= tuning.limit.live)
        rows.setdefault(one.shown.species, []).append(found)
    shares = {}
    for name, found_all in rows.items():
        known = [f for f in found_all if f is not None]
        shares[name] = tuple(Share(sum(f[i] for f in known), len(known)) for i in (0, 1))
    genuine = shares.pop(None)
    lines = [
        f"genuine clips that pass: untuned {genuine[0].count}, tuned {genuine[1].count}, "
        f"of {len(rows[None])} ({len(rows[None]) - genuine[0].of} without an attempt)",
        "| APCER of people not fitted to | untuned | tuned |",
        "|---|---|---|",
    ]
    order = sorted(shares.items(), key=lambda kv: (kv[1][1].rate, kv[1][0].rate), reverse=True)
    lines += [f"| {name} | {_cell(before)} | {_cell(after)} |" for name, (before, after) in order]
    worse = [str(name) for name, (before, after) in order if after.count > before.count]
    totals = [sum(pair[i].count for pair in shares.values()) for i in (0, 1)]
    answered = sum(pair[0].of for pair in shares.values())
    return [
        *lines,
        f"all attacks: untuned {totals[0]}, tuned {totals[1]} of {answered} accepted",
        f"species with a higher APCER than untuned: {', '.join(worse) or 'none'}",
    ]


def _texture(recording: Recording) -> float:
    """What the texture layer says of the first attempt."""
    return float(recording.features[: PadConfig().frames, -recording.crops :].mean())


def _cell(share: Share) -> str:
    return f"{share.count}/{share.of}, at most {100 * share.high:.1f} %" if share.of else "none"


def main() -> int:
    """Print the table."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fit", required=True, action="append", help="people, by commas; may come again")
    parser.add_argument("--refilmed", action="store_true")
    parser.add_argument("--fps", type=float, default=30.0, help="of clips that are folders of pictures")
    options = parser.parse_args()
    recorder = Recorder(options.refilmed, options.fps)
    presentations = open_presentations(options.folder)
    recorder.enrol(presentations)
    progress, seen = bar("presentations"), []
    for shown in presentations:
        seen.append(recorder.see(shown))
        progress(len(seen), len(presentations))
    live = recorder.texture.live
    everybody = [s.recording for s in seen if s.shown.species is None]
    passing = sum(own is not None and _texture(own) >= live for own in everybody)
    none = sum(own is None for own in everybody)
    print(f"untuned {passing} of all {len(everybody)} genuine clips pass, {none} are without an attempt")
    for people in options.fit:
        fit = set(people.split(","))
        learned = [s.recording for s in seen if s.shown.person in fit and s.recording is not None]
        clips = sum(own.species is None for own in learned)
        print(f"\nfitted to {people}: {clips} genuine clips, {len(learned) - clips} attacks")
        found = tune(learned, PadConfig().frames, live)
        if isinstance(found, str):
            print(f"refused: {found}")
            continue
        others = [s for s in seen if s.shown.person not in fit]
        print(*table(others, found, live), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
