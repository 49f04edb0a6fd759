"""Aiming the camera, and one picture if the installer wants it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.config import CameraConfig, Config, shown_source
from edge.disk import write_atomically
from edge.errors import CameraError
from edge.ports import CameraSource
from edge.tools.setup.outcome import Outcome, failed, passed, untested
from edge.tools.setup.talk import Talk
from edge.tools.viewfinder import Glimpse, face_words, summary, watch
from edge.vision.pictures import draw_face, encode_picture
from edge.vision.pipeline import Look

Open = Callable[[CameraConfig], CameraSource]
PICTURE = Path("/run/doord-setup.png")  # in memory: the next start of the machine forgets it
_BLUE, _GREY = (40, 90, 200), (130, 130, 130)
_AIM_S = 600.0
_KEPT = 300


def try_camera(
    config: Config, talk: Talk, look: Callable[[NDArray[np.uint8]], Look], open_source: Open
) -> list[Outcome]:
    """Show what it sees until Enter, or for `aim_s` where nobody sits there. Raises ModelError."""
    seconds = talk.ask("aim_s", "Seconds to look", "5", _seconds) if not talk.interactive else _AIM_S
    if talk.interactive:
        talk.say("Aim the camera: stand where people will stand. Enter ends it.")
    seen: list[Glimpse] = []
    try:
        for glimpse in watch(config.camera, look, seconds, open_source):
            seen = [*seen[-_KEPT:], glimpse]
            talk.live(glimpse.line())
            if talk.went_on():
                break
    except CameraError as error:
        talk.live("")
        return [failed("camera", str(error))]
    talk.live("")
    view = summary(seen)
    if view is None:
        return [failed("camera", f"{shown_source(config.camera.source)}: no frame")]
    talk.say(f"  {view.words()}")
    words = f"{shown_source(config.camera.source)}: {view.words()}"
    if view.blind or view.blurred:
        return [failed("camera", words)]
    _picture(talk, seen)
    if not view.good_faces:
        return [passed("camera", words), untested("face", "nobody good enough to compare stood there")]
    return [passed("camera", words), passed("face", f"passed the gate in {view.good_faces} frames")]


def _seconds(answer: str) -> float:
    seconds = float(answer)
    if not 0 < seconds <= _AIM_S:
        raise ValueError(f"expected 0 < s <= {_AIM_S:g}, got {answer}")
    return seconds


def _picture(talk: Talk, seen: list[Glimpse]) -> None:
    """One picture for who aims the camera; only with consent, only for root, and deleted when told to."""
    words = "Write one picture of what it sees, with whoever stands there? It is personal data"
    if not talk.consent("picture", words, False):
        return
    best = max(seen, key=lambda glimpse: bool(glimpse.look and glimpse.look.probe))
    path = talk.ask("picture_path", "Where", str(PICTURE), _png)
    write_atomically(path, encode_picture(".png", annotated(best)), 0o600)
    talk.say(f"  {path} is a picture of a person, for root alone: look at it, then delete it.")
    kept = False
    try:
        kept = not talk.consent("picture_delete", "Delete it now?", True)
    finally:  # also when the installer ends it here
        if not kept:
            path.unlink(missing_ok=True)
    if kept:
        talk.say(f"  It stays until somebody deletes it: rm {path}")


def _png(answer: str) -> Path:
    path = Path(answer)
    if path.suffix != ".png" or not os.access(path.parent, os.W_OK):
        raise ValueError(f"expected a .png in a folder that can be written, got {answer!r:.80}")
    return path


def annotated(glimpse: Glimpse) -> NDArray[np.uint8]:
    """The frame with every face's box, and the figures at the one that would be asked about."""
    drawn, look = glimpse.frame.pixels, glimpse.look
    for face in look.faces if look else ():
        if look and face is not look.face:
            drawn = draw_face(drawn, face, "", _GREY)
    if look and look.face:
        drawn = draw_face(drawn, look.face, face_words(look).replace(", ", "\n"), _BLUE)
    return drawn
