"""Between vision, cards and door: who is asked about, what is told, what never leaves."""

from __future__ import annotations

import numpy as np
import pytest
from fakes_access import FakeDoor, FakeGate, FakeRecord

from edge.attendant import Attendant
from edge.config import DecisionConfig, PadMode
from edge.identity.claim import Verifier
from edge.identity.credentials import Evidence
from edge.identity.decide import Decider
from edge.identity.match import search
from edge.identity.pad import Limit, rule_of
from edge.link.details import Near, decode_details
from edge.link.wire import Denied, Granted, Notice, Setting
from edge.values import Deny, Gallery, Grant, Observation, Probe, Reason
from edge.vision.loop import Seen

FACE, CARD, BOTH = Evidence.FACE, Evidence.CARD, Evidence.BOTH
MAX_AGE_S = 0.5
VECTORS = np.eye(3, 8, dtype=np.float32)
GALLERY = Gallery(1, "m", ("ada", "kian"), VECTORS[:2], np.array([0, 1], np.intp))
GALLERY_WITHOUT_KIAN = Gallery(2, "m", ("ada",), VECTORS[:1], np.array([0], np.intp))
WHO = {"ada": VECTORS[0], "kian": VECTORS[1], "camera_2": VECTORS[2]}


class Scene:
    """A door, a camera and a reader, with time as a number."""

    def __init__(self, *opens: Evidence) -> None:
        self.now = 100.0
        self.gate = FakeGate(*opens, cards={"wedge:1": "ada", "wedge:2": "kian", "wedge:9": "nobody"})
        self.door = FakeDoor()
        self.record = FakeRecord()
        self.told = self.record.told
        self.gallery: Gallery | None = GALLERY
        self.pad: PadMode = "off"
        self.limits = {"texture": Limit(2.0, 0.0)}
        config = DecisionConfig()
        self.attendant = Attendant(
            Decider(config, MAX_AGE_S),
            Verifier(config, MAX_AGE_S, 10.0),
            self.gate,
            lambda: self.gallery,
            self.door,
            self.record,
            lambda: Setting(0.7, "m", 1, True),
            MAX_AGE_S,
            lambda with_card: rule_of(self.pad, self.limits, 3, with_card),
            lambda: self.now,
        )

    def look(
        self,
        who: str | None = None,
        seconds: float = 1.0,
        searched: bool = True,
        texture: float | None = None,
    ) -> None:
        """Frames of somebody, or of nobody, ten a second, each with this score if any."""
        for _ in range(round(seconds * 10)):
            self.now += 0.1
            taken = self.now - 0.02
            seen = Observation(taken)
            if who is not None:
                pad = None if texture is None else {"texture": texture}
                probe = Probe(WHO[who], "m", taken, pad=pad)
                match = search(probe, GALLERY) if searched else None
                seen = Observation(taken, probe, match, None if searched else Reason.UNAUTHORIZED)
            self.attendant.attend(Seen(seen, None))

    def show(self, card: str) -> None:
        self.now += 3  # no repetition of the last one
        self.attendant.present(card)

    @property
    def verdicts(self) -> list[str]:
        return [
            f"granted {e.subject}" if isinstance(e, Granted) else e.reason.value
            for e in self.told
            if not isinstance(e, Notice)
        ]


def test_the_right_card_and_the_right_face_open():
    scene = Scene(BOTH)
    scene.show("wedge:2")
    scene.look("kian", searched=False)
    assert scene.verdicts == ["granted kian"]
    assert [grant for grant, _ in scene.door.asked] == [Grant("kian", 0.0)]
    assert scene.gate.told == [("succeeded", "kian")]


def test_somebody_elses_face_is_not_the_cards_and_counts():
    scene = Scene(BOTH)
    scene.show("wedge:2")
    scene.look("camera_2")
    scene.look(None, 1.5)
    assert scene.verdicts == ["FaceNotCards"]
    assert scene.door.asked == []
    assert scene.gate.told == [("failed", "kian")]


def test_another_enrolled_face_is_not_the_cards_either():
    scene = Scene(FACE, BOTH)
    scene.show("wedge:2")
    scene.look("ada", 4)
    assert scene.verdicts[0] == "FaceNotCards"


def test_a_card_without_a_face_is_refused_in_time_and_counts_for_nothing():
    scene = Scene(BOTH)
    scene.show("wedge:2")
    scene.look(None, 9.8)
    assert scene.verdicts == []
    scene.look(None, 0.5)
    assert scene.verdicts == ["NoFaceInTime"]
    assert scene.gate.told == []


def test_where_a_card_is_needed_a_face_alone_is_no_attempt():
    scene = Scene(BOTH)
    scene.look("kian", 5)
    scene.look("camera_2", 5)
    assert scene.told == []


@pytest.mark.parametrize(
    ("card", "reason"),
    [
        ("wedge:3", Reason.UNAUTHORIZED),
        ("wedge:4", Reason.CREDENTIAL_NOT_ENABLED),
        ("wedge:5", Reason.CREDENTIAL_EXPIRED),
        ("wedge:6", Reason.THROTTLED),
        ("wedge:9", Reason.UNAUTHORIZED),  # of a subject that is not enrolled
    ],
)
def test_a_card_that_does_not_count_is_refused_at_once(card, reason):
    scene = Scene(BOTH)
    scene.gate.denied = {
        "wedge:4": Reason.CREDENTIAL_NOT_ENABLED,
        "wedge:5": Reason.CREDENTIAL_EXPIRED,
        "wedge:6": Reason.THROTTLED,
    }
    scene.show(card)
    assert scene.verdicts == [reason.value]
    scene.look("kian", 3)
    assert scene.door.asked == []


def test_a_denial_names_nobody_and_no_distance_and_no_card():
    scene = Scene(BOTH)
    for card in ("wedge:2", "wedge:3"):
        scene.show(card)
        scene.look("camera_2")
        scene.look(None, 1.5)
    denials = [e for e in scene.told if isinstance(e, Denied)]
    assert len(denials) == 2
    for denial in denials:
        assert not {"subject", "distance", "card"} & set(denial.__struct_fields__)
        assert "kian" not in repr(denial)
        assert "wedge" not in repr(denial)


def test_a_card_alone_opens_where_that_is_enough_without_any_vision():
    scene = Scene(CARD, BOTH)
    scene.gallery = None
    scene.show("wedge:9")
    assert scene.verdicts == ["granted nobody"]
    assert [e.distance for e in scene.told] == [None]
    assert scene.door.asked == [(Grant("nobody", None), scene.now + 1.0)]


def test_a_card_without_any_gallery_to_verify_in_is_refused_at_once():
    scene = Scene(BOTH)
    scene.gallery = None
    scene.show("wedge:2")
    assert scene.verdicts == ["Other"]


def test_who_has_no_right_is_refused_by_card_and_by_face():
    scene = Scene(FACE, BOTH)
    scene.gate.refused = {"kian": Reason.NOT_PERMITTED_AT_THIS_TIME}
    scene.show("wedge:2")
    scene.look("kian", 2)
    assert scene.verdicts == ["NotPermittedAtThisTime"] * 2
    assert scene.door.asked == []


def test_a_right_that_ends_while_the_face_is_looked_at_opens_nothing():
    scene = Scene(BOTH)
    scene.show("wedge:2")
    scene.gate.refused = {"kian": Reason.CREDENTIAL_EXPIRED}
    scene.look("kian", 1)
    assert (scene.verdicts, scene.door.asked) == (["CredentialExpired"], [])


def test_who_waits_at_the_door_for_the_hour_to_strike_is_let_in_then():
    scene = Scene(FACE, BOTH)
    scene.gate.refused = {"kian": Reason.NOT_PERMITTED_AT_THIS_TIME}
    scene.look("kian", 9)
    assert scene.verdicts == ["NotPermittedAtThisTime"]
    scene.gate.refused = {}
    scene.look("kian", 2)
    assert scene.verdicts == ["NotPermittedAtThisTime", "granted kian"]


def test_a_card_held_to_the_reader_is_one_presentation():
    scene = Scene(CARD, BOTH)
    for _ in range(10):
        scene.now += 0.3
        scene.attendant.present("wedge:2")
    assert scene.verdicts == ["granted kian"]


def test_the_same_card_again_does_not_prolong_its_claim():
    scene = Scene(BOTH)
    scene.show("wedge:2")
    scene.look(None, 6)
    scene.show("wedge:2")
    scene.look(None, 1.5)
    assert scene.verdicts == ["NoFaceInTime"]


def test_another_card_ends_the_claim_before_it():
    scene = Scene(BOTH)
    scene.show("wedge:1")
    scene.look(None, 0.2)
    scene.show("wedge:2")
    scene.look("kian", 1)
    assert scene.verdicts == ["NoFaceInTime", "granted kian"]


def test_a_card_takes_an_attempt_by_face_over():
    scene = Scene(FACE, BOTH)
    scene.look("camera_2", 0.5)
    scene.show("wedge:2")
    scene.look("kian", 3)
    assert scene.verdicts == ["granted kian"]


def test_a_camera_fault_ends_the_claim_and_is_told():
    scene = Scene(BOTH)
    scene.show("wedge:2")
    scene.attendant.attend(Seen(None, "stalled"))
    assert scene.verdicts == ["CameraFault"]
    scene.attendant.attend(Seen(None, None))
    assert [e.kind for e in scene.told if isinstance(e, Notice)] == ["CameraFault", "CameraRestored"]


def test_time_passes_for_a_claim_without_frames():
    scene = Scene(BOTH)
    scene.show("wedge:2")
    scene.now += 10.1
    scene.attendant.attend(Seen(None, None))
    assert scene.verdicts == ["NoFaceInTime"]


def test_ten_faces_that_are_not_the_cards_raise_the_throttle_of_the_door():
    scene = Scene(BOTH)
    for _ in range(10):
        scene.show("wedge:2")
        scene.look("camera_2", 0.5)
        scene.look(None, 1.2)
    assert scene.verdicts == ["FaceNotCards"] * 10
    assert [e.kind for e in scene.told if isinstance(e, Notice)] == ["ThrottleRaised"]


def test_a_door_that_does_not_follow_is_told_behind_the_grant():
    scene = Scene(BOTH)
    scene.door.answer = Deny(Reason.STALE_FRAME)
    scene.show("wedge:2")
    scene.look("kian", 1)
    assert scene.verdicts == ["granted kian", "StaleFrame"]


def test_who_needs_longer_is_granted_longer():
    scene = Scene(CARD, BOTH)
    scene.gate.extended = {"kian"}
    scene.show("wedge:2")
    assert scene.door.asked[0][0] == Grant("kian", None, extended=True)


def test_a_gallery_that_goes_away_during_a_claim_opens_nothing():
    scene = Scene(BOTH)
    scene.show("wedge:2")
    scene.gallery = None
    scene.look("kian", 4, searched=False)
    assert (scene.verdicts, scene.door.asked) == (["Unauthorized"], [])


def test_a_stranger_by_face_is_refused_once_and_by_a_fault_at_once():
    scene = Scene(FACE, BOTH)
    scene.look("camera_2", 1)
    scene.look(None, 1.5)
    assert scene.verdicts == ["NoMatch"]
    scene.look("camera_2", 0.5)
    scene.attendant.attend(Seen(None, "stalled"))
    assert scene.verdicts == ["NoMatch"]  # the same stranger again within ten seconds


def test_ten_strangers_by_face_raise_the_throttle():
    scene = Scene(FACE, BOTH)
    for _ in range(10):
        scene.look("camera_2", 0.2)
        scene.look(None, 1.2)
    assert [e.kind for e in scene.told if isinstance(e, Notice)] == ["ThrottleRaised"]


@pytest.mark.parametrize("left", [GALLERY_WITHOUT_KIAN, None], ids=["removed", "no gallery any more"])
def test_who_is_removed_while_standing_there_is_denied_though_the_frames_were_compared_before(left):
    scene = Scene(FACE)
    scene.gallery = left
    scene.look("kian", 1)  # compared with the gallery of before: a frame may be on its way
    assert scene.door.asked == []
    assert scene.verdicts == ["Unauthorized"]


def test_a_card_alone_opens_for_who_has_no_template():
    scene = Scene(CARD)
    scene.gallery = GALLERY_WITHOUT_KIAN
    scene.show("wedge:2")
    assert [grant for grant, _ in scene.door.asked] == [Grant("kian", None)]


def test_the_door_is_asked_when_the_grant_is_recorded_and_not_before():
    scene = Scene(FACE)
    scene.record.hold = True
    scene.look("kian", 1)
    assert (scene.verdicts, scene.door.asked) == (["granted kian"], [])
    scene.record.let_go()
    assert [grant for grant, _ in scene.door.asked] == [Grant("kian", 0.0)]


def test_the_record_leaves_the_door_time_to_follow_a_grant_before_it_is_stale():
    scene = Scene(FACE)
    scene.look("kian", 1)
    assert scene.record.by == [scene.door.asked[0][1] - 0.05]


@pytest.mark.parametrize("reason", [Reason.NOT_PERMITTED_AT_THIS_TIME, Reason.OTHER])
def test_a_door_that_is_known_to_refuse_is_not_asked_and_the_denial_is_told_once_in_a_while(reason):
    scene = Scene(FACE)
    scene.door.unwilling = Deny(reason)
    scene.look("kian", 9)
    assert (scene.verdicts, scene.door.asked) == ([reason.value], [])
    scene.door.unwilling = None
    scene.look("kian", 2)
    assert scene.verdicts == [reason.value, "granted kian"]


def test_a_door_that_is_known_to_refuse_refuses_a_card_too():
    scene = Scene(CARD)
    scene.door.unwilling = Deny(Reason.OTHER)
    scene.show("wedge:2")
    assert (scene.verdicts, scene.door.asked) == (["Other"], [])


def test_the_door_keeps_for_itself_how_it_was_decided():
    scene = Scene(FACE)
    scene.look("kian", 1)
    told = decode_details(scene.record.details[0])
    assert told.best == Near("kian", 0.0)
    assert told.runner_up == Near("ada", 1.4142)
    assert (told.agreeing, told.needed, told.of, told.right) == (2, 2, 3, "permitted")
    assert (told.threshold, told.margin, told.gallery, told.frames) == (0.7, 0.1, 1, 2)


def test_of_a_denial_too_and_nothing_of_it_leaves():
    scene = Scene(FACE)
    scene.gate.refused = {"kian": Reason.NOT_PERMITTED_AT_THIS_TIME}
    scene.look("kian", 1)
    scene.look("camera_2", 1)
    scene.look(None, 1.5)
    assert scene.verdicts == ["NotPermittedAtThisTime", "NoMatch"]
    first, second = (decode_details(details) for details in scene.record.details)
    assert (first.best, first.right) == (Near("kian", 0.0), "NotPermittedAtThisTime")
    assert (second.best, second.agreeing, second.right) == (Near("ada", 1.4142), 0, "not asked")
    assert all("ada" not in repr(event) and "kian" not in repr(event) for event in scene.told)


def test_of_a_card_without_a_face_nothing_was_compared():
    scene = Scene(BOTH)
    scene.show("wedge:2")
    scene.look(None, 11)
    told = decode_details(scene.record.details[0])
    assert (told.best, told.runner_up, told.agreeing, told.frames) == (None, None, 0, 0)


def test_a_picture_of_somebody_opens_nothing_and_is_told_as_an_attack():
    scene = Scene(FACE)
    scene.pad = "enforce"
    scene.look("ada", 0.5, texture=-3.0)
    assert scene.door.asked == []
    assert scene.verdicts == ["AttackSuspected"]
    assert scene.gate.told == [("failed", "ada")]


def test_while_it_is_only_monitored_the_same_picture_opens_and_its_score_is_told():
    scene = Scene(FACE)
    scene.pad = "monitor"
    scene.look("ada", 0.5, texture=-3.0)
    (event,) = [e for e in scene.told if isinstance(e, Granted)]
    assert (event.subject, event.pad) == ("ada", {"texture": -3.0})


def test_an_unsure_face_is_asked_for_its_card_and_enters_with_it():
    scene = Scene(FACE)
    scene.pad = "step-up"
    scene.look("ada", 0.3, texture=1.0)
    assert (scene.verdicts, len(scene.door.identified)) == (["AttackSuspected"], 1)
    scene.show("wedge:1")
    scene.look("ada", 0.3, texture=1.0)
    assert scene.verdicts == ["AttackSuspected", "granted ada"]
    assert scene.gate.told == [("failed", "ada"), ("succeeded", "ada")]


def test_where_attacks_are_refused_an_unsure_face_is_one_and_no_card_is_asked_for():
    scene = Scene(FACE)
    scene.pad = "enforce"
    scene.look("ada", 0.3, texture=1.0)
    assert (scene.verdicts, scene.gate.told) == (["AttackSuspected"], [("failed", "ada")])
    assert scene.door.identified == []


def test_a_picture_shown_with_the_right_card_opens_nothing_and_counts_against_the_card():
    scene = Scene(FACE)
    scene.pad = "step-up"
    scene.show("wedge:1")
    scene.look("ada", 0.5, texture=-3.0)
    assert scene.door.asked == []
    assert (scene.verdicts[0], scene.gate.told[0]) == ("AttackSuspected", ("failed", "ada"))


def test_without_a_working_layer_a_face_alone_opens_nothing_and_card_and_face_do():
    scene = Scene(FACE)
    scene.pad, scene.limits = "enforce", {}
    scene.look("ada", 1)
    assert (scene.door.asked, scene.verdicts) == ([], ["Other"])
    scene.show("wedge:1")
    scene.look("ada", 0.3)
    assert scene.verdicts == ["Other", "granted ada"]


def test_three_attacks_are_one_silent_alarm():
    scene = Scene(FACE)
    scene.pad = "enforce"
    scene.look("ada", 0.9, texture=-3.0)
    alarms = [e.kind for e in scene.told if isinstance(e, Notice)]
    assert (alarms, len(scene.gate.told)) == (["AttackAlarm"], 3)


def test_a_subject_whose_picture_was_shown_too_often_is_throttled_by_face_however_alive():
    scene = Scene(FACE)
    scene.pad = "enforce"
    scene.gate.failing = {"ada"}
    scene.look("ada", 0.5, texture=9.0)
    scene.look("kian", 1.5, texture=9.0)
    assert scene.verdicts == ["Throttled", "granted kian"]
