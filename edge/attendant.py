"""Who stands between vision and door: observations in, grants and events out.

Runs on the vision thread. A grant goes to the door with the time until which its frame is fresh;
the door's answer, not the wish, becomes the event.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from edge.identity.decide import Decider, Deciding, Step
from edge.link.wire import Event, NoticeKind, Setting, Stamp, attempt_event, notice
from edge.values import Attempt, Deny, Grant, Reason
from edge.vision.loop import Seen

log = logging.getLogger(__name__)

_PLAIN = frozenset({"Started", "Stopped", "CameraRestored", "DoorAlarmCleared", "ExitRequested"})


class Opener(Protocol):
    """The door's controller, or its sibling in tests."""

    def grant(self, grant: Grant, valid_until: float, answer: Callable[[Grant | Deny], None]) -> None:
        """Ask for the door; `answer` is told what became of it."""


class Attendant:
    """Decides on what was seen, asks for the door, tells what happened."""

    def __init__(
        self,
        decider: Decider,
        door: Opener,
        post: Callable[[Event], None],
        setting: Callable[[], Setting],
        max_frame_age_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`post` must neither block nor raise; `setting` gives what is in force now."""
        self.camera_fault: str | None = None
        self.camera_seen = False  # whether a frame was ever looked at
        self._decider = decider
        self._door = door
        self._post = post
        self._setting = setting
        self._max_age_s = max_frame_age_s
        self._clock = clock
        self._state = Deciding()

    def attend(self, seen: Seen) -> None:
        """One turn of the vision loop."""
        now = self._clock()
        self.camera_seen |= seen.observation is not None
        if seen.fault is not None:
            step = self._decider.interrupt(self._state, Reason.CAMERA_FAULT, now)
        elif seen.observation is None:
            step = self._decider.tick(self._state, now)
        else:
            step = self._decider.observe(self._state, seen.observation, now)
        self._note_camera(seen.fault)
        self._carry_out(step)

    def tell(self, kind: NoticeKind, detail: str) -> None:
        """Report something that is no attempt."""
        log.log(logging.INFO if kind in _PLAIN else logging.WARNING, "%s: %s", kind, detail)
        self._post(notice(kind, detail, self._stamp(), self._setting()))

    def _note_camera(self, fault: str | None) -> None:
        if fault is not None and self.camera_fault is None:
            self.tell("CameraFault", fault)
        elif fault is None and self.camera_fault is not None:
            self.tell("CameraRestored", "the camera delivers again")
        self.camera_fault = fault

    def _carry_out(self, step: Step) -> None:
        self._state = step.state
        attempt = step.attempt
        if attempt is not None and isinstance(attempt.decision, Grant):
            self._ask_for_door(attempt, attempt.decision)
        elif attempt is not None:
            self._report(attempt)
        if step.alarm:
            self.tell("ThrottleRaised", "many refused attempts: every frame must confirm, the margin doubles")

    def _ask_for_door(self, attempt: Attempt, grant: Grant) -> None:
        valid_until = attempt.last.taken_at + self._max_age_s
        self._door.grant(grant, valid_until, lambda answer: self._report(replace(attempt, decision=answer)))

    def _report(self, attempt: Attempt) -> None:
        decision = attempt.decision
        if isinstance(decision, Grant):
            late_ms = (self._clock() - attempt.last.taken_at) * 1000
            log.info(
                "AccessGranted: %s, distance %.2f, %d frames, %.0f ms after the frame",
                decision.subject,
                decision.distance,
                attempt.frames,
                late_ms,
            )
        else:
            log.info("AccessDenied: %s, %d frames", decision.reason.value, attempt.frames)
        self._post(attempt_event(attempt, self._stamp(), self._setting()))

    @staticmethod
    def _stamp() -> Stamp:
        return Stamp.of(time.time(), os.urandom(10))
