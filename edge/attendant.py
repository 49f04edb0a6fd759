"""Who stands between vision, cards and door: observations in, grants and events out.

Runs on the vision thread; `present` alone is called by the card readers' threads, and a card that
is enough by itself needs no vision. A grant goes to the door with the time until which it is fresh,
and only if its subject has the right to enter. Its event comes first: AccessGranted is on the disk
before the door is asked, or the disk has had its time (`Record`). A door that then does not follow is
an AccessDenied behind it.
"""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from edge.identity.claim import Claim, ClaimStep, Verifier
from edge.identity.credentials import Credential, Evidence
from edge.identity.decide import Decider, Deciding, Step
from edge.identity.match import compare
from edge.identity.pad import PadRule
from edge.identity.rights import Permitted
from edge.link.details import NOT_ASKED, PERMITTED, details_of, encode_details
from edge.link.wire import Event, NoticeKind, Setting, Stamp, attempt_event, notice
from edge.values import Attempt, Deny, Gallery, Grant, Observation, Reason
from edge.vision.loop import Seen

_CARD_FRESH_S = 1.0  # the door must get to a card's grant within this
_FOR_THE_DOOR_S = 0.05  # of a grant's freshness is left to it: else a slow disk makes every grant stale
_ASK_S = 1.5  # how long lamp and sounder ask for a card
_SAME_CARD_S = 2.0  # a card held to the reader is read again and again: one presentation


class Opener(Protocol):
    """The door's controller, or its sibling in tests."""

    @property
    def refusal(self) -> Deny | None:
        """Why no grant would be followed now, as far as is known."""

    def grant(self, grant: Grant, valid_until: float, answer: Callable[[Grant | Deny], None]) -> None:
        """Ask for the door; `answer` is told what became of it."""

    def identify(self, for_s: float) -> None:
        """Lamp and sounder for so long."""


class Record(Protocol):
    """Where events go, or its sibling in tests. Nothing here blocks or raises."""

    def post(self, event: Event, details: bytes | None = None) -> None:
        """Record an event; `details` stay on the door."""

    def post_then(self, event: Event, details: bytes | None, then: Callable[[], None], by: float) -> None:
        """Record an event; `then` runs when it is on the disk, or has waited long enough.

        At the latest at `by`: s, monotonic.
        """


class Gate(Protocol):
    """Rights and cards, or their sibling in tests."""

    def enough(self) -> frozenset[Evidence]:
        """What opens now."""

    def permitted(self, subject: str) -> Permitted | Deny:
        """Whether the subject may enter here and now."""

    def claimed(self, card: str) -> Credential | Deny:
        """Whose card this is, if it counts."""

    def blocked(self, subject: str) -> bool:
        """Whether too many attempts in this subject's name have just failed."""

    def failed(self, subject: str) -> None:
        """A face was not the one of the claimed subject, or it was theirs and may have been a picture."""

    def succeeded(self, subject: str) -> None:
        """A face was the one of the claimed subject."""


class Attendant:
    """Decides on what was seen and shown, asks for the door, tells what happened."""

    def __init__(
        self,
        decider: Decider,
        verifier: Verifier,
        gate: Gate,
        gallery: Callable[[], Gallery | None],
        door: Opener,
        record: Record,
        setting: Callable[[], Setting],
        max_frame_age_s: float,
        pad: Callable[[bool], PadRule | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`gallery`, `setting` and `pad` give what is in force now, `pad` with and without a card."""
        self.camera_fault: str | None = None
        self.camera_seen = False  # whether a frame was ever looked at
        self._decider = decider
        self._verifier = verifier
        self._gate = gate
        self._gallery = gallery
        self._door = door
        self._record = record
        self._setting = setting
        self._max_age_s = max_frame_age_s
        self._clock = clock
        self._pad = pad
        self._state = Deciding()
        self._not_opened: queue.SimpleQueue[str] = queue.SimpleQueue()  # subjects, from the door's thread
        self._claim: Claim | None = None
        self._claims: queue.SimpleQueue[Claim] = queue.SimpleQueue()
        self._last_card = ("", float("-inf"))

    def rule_by(self, decider: Decider, verifier: Verifier, max_frame_age_s: float) -> None:
        """Decide by other rules from the next frame on; from any thread."""
        self._decider, self._verifier, self._max_age_s = decider, verifier, max_frame_age_s

    def attend(self, seen: Seen) -> None:
        """One turn of the vision loop."""
        now = self._clock()
        while not self._not_opened.empty():
            self._state = self._decider.not_opened(self._state, self._not_opened.get())
        self.camera_seen |= seen.observation is not None
        self._note_camera(seen.fault)
        self._take_claims(now)
        if self._claim is not None:
            self._go_on(self._verify(self._claim, seen, now), now)
        else:
            self._carry_out(self._identify(seen, now), now)

    def present(self, card: str) -> None:
        """A card was read: its text. Called by one reader's thread at a time."""
        now = self._clock()
        before, at = self._last_card
        self._last_card = (card, now)
        if card == before and now - at < _SAME_CARD_S:
            return
        found = self._gate.claimed(card)
        if isinstance(found, Credential):
            self._believe(found.subject, now)
        else:
            self._report(_card_attempt(found, now))

    def tell(self, kind: NoticeKind, detail: str) -> None:
        """Report something that is no attempt."""
        self._record.post(notice(kind, detail, self._stamp(), self._setting()))

    def _believe(self, subject: str, now: float) -> None:
        """A card in force: enough, or the claim that a face must now verify."""
        right, gallery = self._gate.permitted(subject), self._gallery()
        if isinstance(right, Deny):
            self._report(_card_attempt(right, now), right.reason.value)
        elif Evidence.CARD in self._gate.enough():
            grant = Grant(subject, None)
            self._ask_for_door(_card_attempt(grant, now), grant, now + _CARD_FRESH_S)
        elif gallery is None:  # no model, or no gallery: no face will ever verify this
            self._report(_card_attempt(Deny(Reason.OTHER), now))
        elif subject not in gallery.subjects:
            self._report(_card_attempt(Deny(Reason.UNAUTHORIZED), now))
        else:
            self._claims.put(Claim(subject, now))

    def _take_claims(self, now: float) -> None:
        while not self._claims.empty():
            claim = self._claims.get()
            if self._claim is not None:
                if self._claim.subject == claim.subject:
                    continue
                self._go_on(self._verifier.abandon(self._claim, now), now)
            self._claim = claim
            self._state = self._decider.set_aside(self._state)

    def _verify(self, claim: Claim, seen: Seen, now: float) -> ClaimStep:
        if seen.fault is not None:
            return self._verifier.interrupt(claim, Reason.CAMERA_FAULT, now)
        if seen.observation is None:
            return self._verifier.tick(claim, now)
        need = self._decider.rule(self._state, now)
        compared = self._compared(seen.observation, claim.subject)
        return self._verifier.observe(claim, compared, need, now, self._pad(True))

    def _compared(self, seen: Observation, subject: str) -> Observation:
        """The frame compared with the claimed subject alone: whether a search was allowed is no matter."""
        gallery = self._gallery()
        if seen.probe is None or gallery is None:
            return seen
        return replace(seen, match=compare(seen.probe, gallery, subject), refused=None)

    def _go_on(self, step: ClaimStep, now: float) -> None:
        claim, self._claim = self._claim, step.claim
        if step.attempt is None or claim is None:
            return
        decision = step.attempt.decision
        if isinstance(decision, Grant):
            self._state = self._decider.admitted(self._state, decision.subject, now)
            self._gate.succeeded(decision.subject)
            self._ask_for_door(step.attempt, decision, self._fresh_until(step.attempt))
            return
        wrong = decision.reason in (Reason.FACE_NOT_CARDS, Reason.ATTACK_SUSPECTED)
        if wrong:  # counted before anybody can know of it and show the card again
            self._gate.failed(claim.subject)
        self._report(step.attempt)
        if wrong:
            self._carry_out(self._decider.count_refusal(self._state, decision.reason, now), now)

    def _identify(self, seen: Seen, now: float) -> Step:
        if seen.fault is not None:
            return self._decider.interrupt(self._state, Reason.CAMERA_FAULT, now)
        if seen.observation is None or Evidence.FACE not in self._gate.enough():
            return self._decider.tick(self._state, now)
        return self._decider.observe(self._state, seen.observation, now, self._pad(False))

    def _note_camera(self, fault: str | None) -> None:
        if fault is not None and self.camera_fault is None:
            self.tell("CameraFault", fault)
        elif fault is None and self.camera_fault is not None:
            self.tell("CameraRestored", "the camera delivers again")
        self.camera_fault = fault

    def _carry_out(self, step: Step, now: float) -> None:
        self._state = step.state
        attempt = step.attempt
        if step.suspect is not None:  # counted before anybody can know of it and try again
            self._gate.failed(step.suspect)
        if attempt is not None and isinstance(attempt.decision, Grant):
            if self._ask_for_door(attempt, attempt.decision, self._fresh_until(attempt)):
                self._gate.succeeded(attempt.decision.subject)
            else:
                self._state = self._decider.barred(self._state, attempt.decision.subject, now)
        elif attempt is not None:
            self._report(attempt)
        if step.asks_card:
            self._door.identify(_ASK_S)
        if step.attack_alarm:
            self.tell("AttackAlarm", "faces were shown that may have been pictures, again and again")
        if step.alarm:
            self.tell("ThrottleRaised", "many refused attempts: every frame must confirm, the margin doubles")

    def _fresh_until(self, attempt: Attempt) -> float:
        return attempt.last.taken_at + self._max_age_s

    def _ask_for_door(self, attempt: Attempt, grant: Grant, valid_until: float) -> bool:
        """Whether the door will be asked; not for a subject without the right, nor when it would refuse."""
        right = self._right(grant)
        if isinstance(right, Deny):
            self._report(replace(attempt, decision=right), right.reason.value)
            return False
        refusal = self._door.refusal
        if refusal is not None:
            self._report(replace(attempt, decision=refusal), PERMITTED)
            return False

        def answer(came: Grant | Deny) -> None:  # on the door's thread
            if isinstance(came, Deny):
                self._not_opened.put(grant.subject)
                self._report(replace(attempt, decision=came), PERMITTED)

        def ask() -> None:  # when the event is on the disk, or has waited long enough
            self._door.grant(replace(grant, extended=right.extended), valid_until, answer)

        self._report(attempt, PERMITTED, ask, valid_until - _FOR_THE_DOOR_S)
        return True

    def _right(self, grant: Grant) -> Permitted | Deny:
        if not self._is_enrolled(grant):
            return Deny(Reason.UNAUTHORIZED)
        if grant.distance is not None and self._gate.blocked(grant.subject):
            return Deny(Reason.THROTTLED)
        return self._gate.permitted(grant.subject)

    def _is_enrolled(self, grant: Grant) -> bool:
        """Whether a face that was recognised still is anybody's: a gallery may come while votes gather."""
        gallery = self._gallery()
        return grant.distance is None or (gallery is not None and grant.subject in gallery.subjects)

    def _report(
        self,
        attempt: Attempt,
        right: str = NOT_ASKED,
        then: Callable[[], None] | None = None,
        by: float = float("inf"),
    ) -> None:
        """Record an attempt. `right`: what the rights said; `then`, `by`: see Record."""
        event = attempt_event(attempt, self._stamp(), self._setting())
        details = encode_details(details_of(attempt, event, right))
        if then is None:
            self._record.post(event, details)
        else:
            self._record.post_then(event, details, then, by)

    @staticmethod
    def _stamp() -> Stamp:
        return Stamp.of(time.time(), os.urandom(10))


def _card_attempt(decision: Grant | Deny, now: float) -> Attempt:
    """An attempt in which no frame was compared."""
    return Attempt(decision, now, now, 0, Observation(now), margin=0.0)
