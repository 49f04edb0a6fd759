"""The layers of presentation-attack detection, asked as often as needed; one that fails has no verdict."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from test_loop import FACE, pixels

from edge.config import parse_config
from edge.errors import ModelError
from edge.identity.pad import Limit
from edge.liveness import PadSubsystem
from edge.values import Liveness
from edge.vision.pad import PadCheck
from edge.worker import within

PICTURE = pixels(1)


class Layer:
    """Sibling of a layer: gives what it was told, `asked` has the times."""

    def __init__(self, name: str, *scores: float | ModelError, looks_back: bool = False) -> None:
        self.name = name
        self.looks_back = looks_back
        self.left = list(scores)
        self.asked: list[float] = []

    def score(self, picture: np.ndarray, face: object, taken_at: float) -> float:
        self.asked.append(taken_at)
        score = self.left.pop(0) if self.left else 1.0
        if isinstance(score, ModelError):
            raise score
        return score


def config(more: str = ""):
    return parse_config(f"site: hq\ndoor_id: front\ndoor: {{relay: {{line: 17}}}}\n{more}")


def test_frames_are_scored_a_quarter_of_a_second_apart():
    layer = Layer("texture")
    check = PadCheck([layer], 0.25, lambda: True)
    for i in range(30):
        check(PICTURE, FACE, i / 30)
    assert layer.asked == pytest.approx([0, 7 / 30, 14 / 30, 21 / 30, 28 / 30])


def test_a_frame_without_a_verdict_is_followed_by_the_next_at_once():
    cut_off = [math.nan] * 3
    texture, still = Layer("texture", *cut_off), Layer("still", looks_back=True)
    check = PadCheck([texture, still], 0.25, lambda: True)
    found = [check(PICTURE, FACE, i / 30) for i in range(12)]
    assert texture.asked == pytest.approx([0, 1 / 30, 2 / 30, 3 / 30, 10 / 30])
    assert still.asked == texture.asked[3:]  # what looks back is as costly as it is often asked
    assert found[3] == {"texture": 1.0, "still": 1.0}
    assert found[0] is not None
    assert all(map(math.isnan, found[0].values()))


def test_a_layer_that_fails_is_not_asked_about_each_frame():
    layer = Layer("texture", ModelError("the runtime refused"))
    check = PadCheck([layer], 0.25, lambda: True)
    for i in range(8):
        check(PICTURE, FACE, i / 30)
    assert layer.asked == pytest.approx([0, 7 / 30])


def test_a_layer_that_looks_back_has_no_verdict_at_first_and_is_asked_at_its_own_pace():
    still = Layer("still", math.nan, math.nan, looks_back=True)
    check = PadCheck([Layer("texture"), still], 0.25, lambda: True)
    for i in range(8):
        check(PICTURE, FACE, i / 30)
    assert still.asked == pytest.approx([0, 7 / 30])


def test_nothing_is_scored_that_nobody_wants():
    layer = Layer("texture")
    assert PadCheck([layer], 0, lambda: False)(PICTURE, FACE, 0.0) is None
    assert layer.asked == []


def test_a_layer_that_fails_has_no_verdict_on_that_frame_and_the_others_have():
    check = PadCheck([Layer("texture", ModelError("the runtime refused")), Layer("still")], 0, lambda: True)
    first = check(PICTURE, FACE, 0.0)
    assert first is not None
    assert (math.isnan(first["texture"]), first["still"], check.problem) == (True, 1.0, "the runtime refused")
    assert check(PICTURE, FACE, 1.0) == {"texture": 1.0, "still": 1.0}
    assert check.problem is None


def test_a_fault_stands_until_a_face_was_scored_and_is_logged_once(caplog):
    seen: list[str | None] = []

    class Failing(Layer):
        def score(self, picture: np.ndarray, face: object, taken_at: float) -> float:
            seen.append(check.problem)  # as another thread would see it meanwhile
            return super().score(picture, face, taken_at)

    refused = ModelError("the runtime refused")
    check = PadCheck([Failing("texture", refused, math.nan, refused, 1.0)], 0, lambda: True)
    for i in range(5):
        check(PICTURE, FACE, float(i))
    assert seen == [None, *["the runtime refused"] * 3, None]
    assert caplog.text.count("pad: the runtime refused") == 1


def test_without_layers_no_frame_is_scored():
    assert PadCheck([], 0, lambda: True)(PICTURE, FACE, 0.0) is None


def test_the_shipped_model_is_loaded_and_judges_by_its_entrys_limits():
    pad = PadSubsystem(config(), lambda: "enforce")
    assert (pad.problem, pad.limits) == (None, {"texture": Limit(2.0, 0.0)})
    rule = pad.rule(with_card=False)
    assert rule is not None
    assert (rule.frames, rule.accepted, rule.unjudged) == (3, frozenset({Liveness.LIVE}), False)


def test_the_owner_may_set_the_limits():
    assert PadSubsystem(config("pad: {live: 3.5, unsure: 1}"), lambda: "enforce").limits == {
        "texture": Limit(3.5, 1.0)
    }


@pytest.mark.parametrize("more", ["pad: {unsure: 2.5}", "pad: {live: -0.5}"])
def test_a_limit_that_contradicts_the_models_other_one_closes_the_door_to_faces_alone(more):
    pad = PadSubsystem(config(more), lambda: "enforce")
    assert pad.limits == {}
    assert pad.why_not() == [f"pad: {pad.problem}"]
    assert "pad.unsure: expected at most live" in str(pad.problem)


def test_stillness_judges_where_the_owner_asks_for_it_and_is_told_anyway():
    asked = PadSubsystem(config("pad: {stillness: 0.003}"), lambda: "enforce")
    assert asked.limits["stillness"] == Limit(0.003, 0.003, newest=True)
    assert PadSubsystem(config(), lambda: "enforce").check.names == ("texture", "stillness")


@pytest.mark.parametrize("more", ["pad: {models: [no-such-model]}", "models: {dir: /nonexistent}"])
def test_a_model_that_is_missing_closes_the_door_to_faces_alone_and_says_so(more):
    pad = PadSubsystem(config(more), lambda: "enforce")
    alone, with_card = pad.rule(with_card=False), pad.rule(with_card=True)
    assert alone is not None
    assert with_card is not None
    assert (alone.limits, alone.unjudged, with_card.unjudged) == ({}, False, True)
    assert pad.why_not() == [f"pad: {pad.problem}"]
    assert pad.check(PICTURE, FACE, 0.0) is None


def test_a_layer_that_fails_while_the_door_runs_is_why_no_face_alone_opens_it(monkeypatch):
    pad = PadSubsystem(config("pad: {every_ms: 0}"), lambda: "enforce")
    answers = iter([ModelError("minifasnet-se-1: the runtime refused"), 3.0])

    def score(*_: object) -> float:
        answer = next(answers)
        if isinstance(answer, ModelError):
            raise answer
        return answer

    monkeypatch.setattr(pad.texture, "score", score)
    pad.check(PICTURE, FACE, 0.0)
    assert pad.why_not() == ["pad: minifasnet-se-1: the runtime refused"]
    pad.check(PICTURE, FACE, 1.0)
    assert pad.why_not() == []


@pytest.mark.parametrize(
    ("mode", "judged_by"), [("enforce", ["stillness", "texture"]), ("monitor", []), ("off", [])]
)
def test_what_holds_is_told_in_the_status(mode, judged_by):
    pad = PadSubsystem(config("pad: {stillness: 0.003}"), lambda: mode)
    assert pad.told() == {"mode": mode, "judged_by": judged_by, "note": None}


def test_a_model_that_is_missing_is_no_matter_where_nobody_asks_for_it():
    pad = PadSubsystem(config("pad: {mode: 'off', models: [no-such-model]}"), lambda: "off")
    assert (pad.problem, pad.why_not(), pad.rule(with_card=False)) == (None, [], None)


def test_a_model_whose_file_was_altered_is_not_used(tmp_path):
    import shutil

    from edge import models

    folder = tmp_path / "models"
    shutil.copytree(Path(models.__file__).parent, folder, ignore=shutil.ignore_patterns("build"))
    with (folder / "minifasnet_se.tflite").open("r+b") as file:
        file.seek(1000)
        file.write(b"altered")
    pad = PadSubsystem(config(f"models: {{dir: {folder}}}"), lambda: "enforce")
    assert pad.limits == {}
    assert "minifasnet" in str(pad.problem)


def test_models_that_hang_are_left_behind():
    import threading

    never = threading.Event()
    with pytest.raises(ModelError, match=r"PAD models: expected to be loaded in 0\.05 s"):
        within(never.wait, 0.05, "PAD models")
    never.set()
