"""`doord evaluate --pad`: figures with known answers, splits by people, and what a bad folder gets told."""

import json
import math
import os
import shutil
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from edge.cli import main
from edge.config import ModelsConfig
from edge.errors import DatasetError, DoordError, ImageError, ModelError
from edge.evaluate.layers import Loaded, pad_layers
from edge.evaluate.pad import (
    Judged,
    Share,
    attempts_of,
    auc,
    by_thresholds,
    det,
    fitted_threshold,
    halves,
    tabulate,
)
from edge.evaluate.pad_run import HALVES, PadOptions, run_pad
from edge.evaluate.pad_score import Pace
from edge.evaluate.presentations import frames, open_presentations
from edge.values import Face, Probe, Quality
from edge.vision.pipeline import Look

NO_FACE, OTHER, BROKEN, SILENT = 0, 250, 240, 230  # grey levels with a meaning to the fakes below


def look(pixels):
    """A full sibling of Pipeline.__call__: one person, but where the frame is of OTHER."""
    grey = round(float(pixels.mean()))
    if grey == NO_FACE:
        return Look([])
    face = Face((1, 1, 9, 9), np.full((6, 2), 4, np.float32), 0.9)
    vector = np.array([1, 0] if grey != OTHER else [0, 1], np.float32)
    return Look([face], face, None, None, Probe(vector, "fake", 0.0, Quality(30, 100, 120, 50, 0, 0.6)))


class Grey:
    """A full sibling of PadLayer: the grey level is the score."""

    name = "texture"
    looks_back = False

    def score(self, pixels, face, taken_at):
        grey = round(float(pixels.mean()))
        if grey == BROKEN:
            raise ModelError("broken")
        return math.nan if grey == SILENT else float(grey)


def picture(path, grey):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((16, 16, 3), grey, np.uint8))


def clip(folder, greys):
    for i, grey in enumerate(greys):
        picture(folder / f"{i:03d}.png", grey)


def evaluate(source, **options):
    options.setdefault("thresholds", {"texture": 100.0})
    return run_pad(PadOptions(source, **options), look, lambda: [Grey()], "fake")


@pytest.fixture
def folder(tmp_path):
    """Four people, genuine 120 to 150; prints 10 to 40; one tablet of 130."""
    for i, person in enumerate(("ann", "bob", "cy", "dee")):
        picture(tmp_path / "genuine" / person / "one.png", 120 + 10 * i)
        picture(tmp_path / "attack" / "print" / person / "one.png", 10 + 10 * i)
    picture(tmp_path / "attack" / "tablet" / "ann_1.png", 130)
    picture(tmp_path / "attack" / "tablet" / "dee_1.png", 50)
    return tmp_path


# figures


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    [
        (0, 20, 0.0, 0.1684),
        (0, 40, 0.0, 0.0881),
        (0, 150, 0.0, 0.0243),
        (1, 10, 0.0025, 0.4450),
        (3, 3, 0.2924, 1.0),
    ],
)
def test_bounds_are_those_of_clopper_and_pearson(count, of, low, high):
    share = Share(count, of)
    assert (round(share.low, 4), round(share.high, 4)) == (low, high)


def test_a_share_of_nothing_is_no_rate_and_bounds_nothing():
    share = Share(0, 0)
    assert math.isnan(share.rate)
    assert (share.low, share.high) == (0.0, 1.0)


def test_the_bounds_of_many_presentations_are_still_exact():
    assert Share(100, 5000).high == pytest.approx(0.02426, abs=2e-5)


def judged(species, *scores, person="ann"):
    return Judged(person, species, "x", tuple({"texture": s} for s in scores))


def test_the_worst_species_is_named_first_and_the_first_attempt_counts():
    table = tabulate(
        [
            judged("print", 1),
            judged("print", 3),
            judged("tablet", 1, 5),
            judged("tablet", 1),
            judged(None, 5),
        ],
        by_thresholds({"texture": 2}),
    )
    assert [(r.name, r.errors.count, r.any_attempt.count) for r in table.species] == [
        ("print", 1, 1),
        ("tablet", 0, 1),
    ]


def test_of_two_clean_species_the_one_less_often_tried_stands_first():
    table = tabulate([judged("a", 0), judged("a", 0), judged("b", 0)], by_thresholds({"texture": 2}))
    assert [r.name for r in table.species] == ["b", "a"]


def test_a_nan_is_never_taken_for_alive():
    table = tabulate([judged(None, math.nan), judged("print", math.nan)], by_thresholds({"texture": -1e9}))
    assert (table.bpcer.errors.count, table.species[0].errors.count) == (1, 0)


def test_what_is_not_answered_is_in_no_rate():
    table = tabulate([judged("print"), judged("print", 5), judged(None)], by_thresholds({"texture": 2}))
    assert (table.species[0].errors, table.species[0].unanswered) == (Share(1, 1), 1)
    assert (table.bpcer.errors, table.bpcer.unanswered) == (Share(0, 0), 1)


def test_all_layers_have_to_agree():
    accept = by_thresholds({"texture": 1, "stillness": 2})
    assert accept({"texture": 1, "stillness": 2}, "ann")
    assert not accept({"texture": 9, "stillness": 1}, "ann")
    assert not accept({"texture": 9}, "ann")


def test_the_area_under_the_curve_is_that_of_counting_pairs():
    random = np.random.default_rng(1)
    genuine, attack = random.integers(0, 9, 40) + 2.0, random.integers(0, 9, 30) + 0.0
    pairs = [(g > a) + (g == a) / 2 for g in genuine for a in attack]
    assert auc(genuine, attack) == pytest.approx(np.mean(pairs))


def test_the_det_goes_from_all_accepted_to_none():
    apcer, bpcer = det(np.array([2.0, 3.0]), np.array([1.0, 2.5]))
    assert apcer.tolist() == [1, 0.5, 0.5, 0, 0]
    assert bpcer.tolist() == [0, 0, 0.5, 0.5, 1]


def test_a_fitted_threshold_is_the_middle_of_the_widest_gap():
    assert fitted_threshold(np.array([5.0, 8.0]), {"print": np.array([1.0, 2.0])}) == pytest.approx(3.5)


def test_a_fitted_threshold_goes_by_the_worst_species():
    genuine = np.array([2.0, 6.0, 7.0, 8.0])
    attacks = {"easy": np.zeros(100), "hard": np.array([1.0, 5.0])}
    assert 5 < fitted_threshold(genuine, attacks) <= 6


def test_where_no_threshold_is_any_good_nothing_passes():
    assert fitted_threshold(np.array([1.0]), {"tablet": np.array([2.0])}) > 2


def test_an_attempt_is_so_many_frames_of_one_subject_and_the_rest_counts_for_nothing():
    frames_ = [{"a": float(v), "b": float(v)} for v in range(7)]
    got = attempts_of([frames_, frames_[:2]], 3, {"a": False, "b": True})
    assert got == ({"a": 1, "b": 2}, {"a": 4, "b": 5})


def test_a_frame_without_a_score_is_waited_out_as_at_the_door():
    frames_ = [{"a": v} for v in (1.0, math.nan, 3.0, math.nan, math.nan, 5.0, 9.0)]
    assert attempts_of([frames_], 3, {"a": False}) == ({"a": 3},)


def test_a_layer_that_looks_back_is_waited_for_and_the_next_attempt_begins_behind_it():
    back = (math.nan, math.nan, math.nan, 0.4, 0.5, 0.6, 0.7)
    frames_ = [{"a": float(i), "b": b} for i, b in enumerate(back)]
    assert attempts_of([frames_], 3, {"a": False, "b": True}) == ({"a": 1, "b": 0.4}, {"a": 5, "b": 0.7})


def test_halves_share_nobody():
    one, two = halves(["c", "a", "b", "a", "e", "d"])
    assert (sorted(one), sorted(two)) == (["a", "b", "c"], ["d", "e"])


# folders


def test_a_folder_is_judged_at_a_fixed_threshold(folder):
    report = evaluate(folder)
    (setting,) = report.settings
    assert [(r.name, r.errors.count, r.errors.of) for r in setting.table.species] == [
        ("tablet", 1, 2),
        ("print", 0, 4),
    ]
    assert (setting.table.bpcer.errors, report.threshold_from) == (Share(0, 4), "fixed")
    assert setting.auc["print"] == 1.0


def test_a_person_is_judged_at_a_threshold_of_others(folder):
    report = evaluate(folder, split="ann")
    (setting,) = report.settings
    assert report.people == 3
    assert report.presentations == {"genuine": 3, "print": 3, "tablet": 1}
    assert setting.table.bpcer.errors.of == 3
    assert float(setting.thresholds["texture"]) > 100  # by ann's tablet of 130, above her 120


def test_with_halves_everybody_is_judged_and_nobody_at_his_own_threshold(folder):
    report = evaluate(folder, split=HALVES)
    (setting,) = report.settings
    assert setting.table.bpcer.errors.of == 4
    one, two = (float(v) for v in setting.thresholds["texture"].split(", "))
    assert one > 120 > two
    # cy and dee at what ann and bob give, ann and bob at what cy and dee give: so the tablet of 130 passes
    assert setting.table.species[0].errors == Share(1, 2)


def test_a_clip_needs_its_frames_and_a_picture_is_judged_by_itself(tmp_path):
    clip(tmp_path / "genuine" / "ann" / "long", [100, 130, 160, 10])
    clip(tmp_path / "genuine" / "ann" / "short", [130, 130])
    clip(tmp_path / "attack" / "print" / "ann" / "c", [10, 10, NO_FACE, 10])
    bpcer = evaluate(tmp_path, pace=Pace(0.25, 3, 4)).settings[0].table.bpcer
    assert (bpcer.errors, bpcer.unanswered) == (Share(0, 1), 1)


def test_frames_are_as_far_apart_as_the_door_s(tmp_path):
    clip(tmp_path / "genuine" / "ann" / "c", [130] * 30)
    picture(tmp_path / "attack" / "print" / "ann_1.png", 1)
    assert evaluate(tmp_path, pace=Pace(0.25, 3, 15)).frames_scored == 8 + 1


def test_a_face_on_clothes_is_not_half_of_an_attempt(tmp_path):
    clip(tmp_path / "genuine" / "ann" / "c", [130, OTHER, 140, OTHER, 150])
    picture(tmp_path / "attack" / "print" / "ann_1.png", 1)
    report = evaluate(tmp_path, thresholds={"texture": 135.0}, pace=Pace(0.25, 3, 4))
    assert report.settings[0].table.bpcer.errors == Share(0, 1)  # 140, without the 250s


@pytest.mark.parametrize("grey", [BROKEN, SILENT])
def test_a_layer_that_fails_or_is_silent_is_no_answer(folder, grey):
    picture(folder / "genuine" / "zoe_1.png", grey)
    picture(folder / "attack" / "print" / "zoe_1.png", grey)
    table = evaluate(folder, thresholds={"texture": -1e9}).settings[0].table
    prints = next(row for row in table.species if row.name == "print")
    assert (table.bpcer.unanswered, prints.unanswered) == (1, 1)


def test_a_layer_that_never_says_anything_is_told(tmp_path):
    picture(tmp_path / "genuine" / "ann_1.png", SILENT)
    picture(tmp_path / "attack" / "print" / "ann_1.png", BROKEN)
    with pytest.raises(DatasetError, match="get a score in 2 presentations, got none"):
        evaluate(tmp_path)


def test_the_json_has_rates_with_bounds_and_the_text_rounds_against_us(folder):
    for i in range(30):
        picture(folder / "attack" / "print" / "eve" / f"{i}.png", 5)
    report = evaluate(folder)
    told = json.loads(report.json())
    tablet = told["settings"][0]["table"]["species"][0]["errors"]
    assert (tablet["count"], tablet["of"], tablet["rate"]) == (1, 2, 0.5)
    text = "\n".join(report.lines())
    assert "50.0 %" in text
    assert "10.3 %" in text  # 0 of 34: at most 10.28 %


def test_videos_are_read_at_their_own_rate(tmp_path):
    path = tmp_path / "c.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for _ in range(5):
        writer.write(np.full((48, 64, 3), 90, np.uint8))
    writer.release()
    assert [round(f.taken_at, 3) for f in frames(path, 30)] == [0, 0.1, 0.2, 0.3, 0.4]


def test_whose_a_presentation_is_stands_in_the_folder_or_before_the_underscore(tmp_path):
    picture(tmp_path / "genuine" / "ann" / "x.png", 1)
    picture(tmp_path / "genuine" / "bob_2_a.png", 1)
    clip(tmp_path / "attack" / "phone" / "cy" / "clip", [1])
    (tmp_path / "genuine" / "bob_2_a.json").write_text("{}")
    (tmp_path / "genuine" / ".hidden.png").write_text("half written")
    assert [(p.person, p.species) for p in open_presentations(tmp_path)] == [
        ("ann", None),
        ("bob", None),
        ("cy", "phone"),
    ]


# what is refused


def test_a_folder_without_its_parts_is_refused_in_one_line(tmp_path):
    with pytest.raises(DatasetError, match="genuine: expected a folder, got: No such"):
        open_presentations(tmp_path)
    picture(tmp_path / "genuine" / "ann_1.png", 1)
    with pytest.raises(DatasetError, match="attack: expected a folder, got: No such"):
        open_presentations(tmp_path)
    (tmp_path / "attack").mkdir()
    with pytest.raises(DatasetError, match="attack: expected a sub-folder of clips or pictures per species"):
        open_presentations(tmp_path)
    (tmp_path / "attack" / "print").mkdir()
    with pytest.raises(DatasetError, match="print: expected clips or pictures"):
        open_presentations(tmp_path)


@pytest.mark.parametrize("name", ["\x1b[2Jprint", "two\nlines", os.fsdecode(b"\xff\xfe")])
@pytest.mark.parametrize("below", ["genuine", "attack"])
def test_a_name_that_would_move_the_cursor_or_is_no_text_is_refused_in_one_line(folder, below, name):
    own = folder / below / name / "ann"
    own.mkdir(parents=True)
    shutil.copy(folder / "genuine" / "ann" / "one.png", own)  # OpenCV writes to no such name
    with pytest.raises(DatasetError, match="expected names of printable letters, got '") as caught:
        open_presentations(folder)
    assert "\n" not in str(caught.value)


def test_a_pipe_that_is_called_a_video_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(DatasetError, match="expected a video file, got something else"):
        next(frames(tmp_path / "a.mp4", 30))


def test_a_video_whose_name_is_no_text_is_refused_before_opencv_sees_it(tmp_path):
    path = tmp_path / os.fsdecode(b"\xff.mp4")
    path.write_bytes(b"no video")
    with pytest.raises(DatasetError, match="expected a name in UTF-8"):
        next(frames(path, 30))


def test_a_picture_or_video_that_is_none_is_an_error_not_a_refusal(folder):
    (folder / "genuine" / "ann" / "two.png").write_bytes(b"nonsense")
    with pytest.raises(ImageError, match=r"two\.png"):
        evaluate(folder)
    (folder / "genuine" / "ann" / "two.png").unlink()
    (folder / "genuine" / "ann" / "two.mkv").write_bytes(b"nonsense")
    with pytest.raises(DatasetError, match=r"two\.mkv: expected a video"):
        evaluate(folder)


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("zoe", "expected people of the set, got zoe"),
        ("ann,bob,cy,dee", "expected genuine and attack presentations of eve, got 1 and 0"),
        ("ann,bob,cy,dee,eve", "expected people to fit to and others to judge"),
        (",", "expected people to fit to and others to judge"),
        ("eve", "expected genuine and attack presentations of eve, got 1 and 0"),
    ],
)
def test_a_split_that_says_nothing_is_refused(folder, split, message):
    picture(folder / "genuine" / "eve" / "one.png", 120)
    with pytest.raises(DatasetError, match=message):
        evaluate(folder, split=split)


def test_a_set_in_which_no_face_passes_is_refused(tmp_path):
    picture(tmp_path / "genuine" / "ann_1.png", NO_FACE)
    picture(tmp_path / "attack" / "print" / "ann_1.png", NO_FACE)
    with pytest.raises(DatasetError, match="got none"):
        evaluate(tmp_path)


def test_a_threshold_that_is_no_number_is_refused(folder):
    with pytest.raises(DoordError, match="finite"):
        evaluate(folder, thresholds={"texture": math.nan})


@pytest.mark.parametrize(
    ("names", "message"), [(["smell"], "got smell"), (["stillness", "stillness"], "once")]
)
def test_a_layer_that_is_not_there_or_twice_is_refused(names, message):
    with pytest.raises(DoordError, match=message):
        pad_layers(names, ModelsConfig())


# plots and command


def test_there_is_a_det_plot_a_layer(folder, tmp_path):
    pytest.importorskip("matplotlib")
    report = evaluate(folder, plots=tmp_path / "plots")
    assert [p.rpartition("/")[2] for p in report.plots] == ["pad-det-texture.png"]
    assert (tmp_path / "plots" / "pad-det-texture.png").stat().st_size > 1000


def test_the_command_measures_real_pictures(tmp_path, picture_files, capsys):
    for name in ("obama", "biden"):
        (tmp_path / "genuine" / name).mkdir(parents=True)
        (tmp_path / "genuine" / name / "a.jpg").write_bytes(picture_files(name))
        clip_folder = tmp_path / "attack" / "print" / name / "clip"
        clip_folder.mkdir(parents=True)
        for i in range(4):
            (clip_folder / f"{i}.jpg").write_bytes(picture_files(name))
    words = ["evaluate", "--pad", str(tmp_path), "--layers", "stillness", "--fps", "4", "--json"]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out)
    (row,) = told["settings"][0]["table"]["species"]
    assert (row["name"], row["errors"]["count"], row["errors"]["of"]) == ("print", 0, 2)  # nothing moves


@pytest.mark.parametrize("words", ["texture", "texture=alive", "smell=1"])
def test_a_threshold_of_the_command_names_a_layer_and_a_number(words, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        "edge.evaluate.layers.LAYERS",
        {"texture": lambda *_: Loaded(lambda: SimpleNamespace(name="texture"), "fake", 0.0)},
    )
    assert main(["evaluate", "--pad", str(tmp_path), "--pad-threshold", words]) == 2
    assert "expected LAYER=NUMBER" in capsys.readouterr().err


@pytest.fixture
def picture_files():
    from conftest import PICTURES

    return lambda name: (PICTURES / f"{name}.jpg").read_bytes()
