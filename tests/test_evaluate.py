"""`doord evaluate`: figures with known answers, and what a bad data set gets told."""

import itertools
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from edge.errors import DatasetError, DoordError, ImageError
from edge.evaluate.datasets import open_dataset, parse_pairs
from edge.evaluate.embed import Embedded
from edge.evaluate.metrics import (
    Tally,
    best_threshold,
    bin_edges,
    count_bins,
    tally_all,
    tally_pairs,
    wilson,
)
from edge.evaluate.run import EvaluateOptions, run_evaluate
from edge.progress import bar
from edge.values import Face, Probe, Quality
from edge.vision.pipeline import Look

NO_FACE, BLURRED = 0, 250  # grey levels with a meaning to the fake below
STEP = 10  # grey levels per 1/10 rad


def look(pixels):
    """A full sibling of Pipeline.__call__: the grey level is the angle of the vector."""
    grey = round(float(pixels.mean()))
    if grey == NO_FACE:
        return Look([])
    face = Face((1, 1, 9, 9), np.full((6, 2), 4, np.float32), 0.9)
    quality = Quality(30, 100, 120, 50, 0, 0.6)
    if grey == BLURRED:
        return Look([face], face, quality, "blurred: sharpness 3, expected >= 20")
    angle = round(grey / STEP) / 10
    vector = np.array([np.cos(angle), np.sin(angle)], np.float32)
    return Look([face], face, quality, None, Probe(vector, "fake", 0.0, quality))


def apart(steps):
    """The distance of two pictures whose grey levels are `steps` * STEP apart."""
    return 2 * np.sin(steps / 20)


def picture(folder, name, number, grey):
    where = folder / name
    where.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(where / f"{name}_{number:04d}.jpg"), np.full((16, 16, 3), grey, np.uint8))


def pairs_file(folder, name, text):
    path = folder / name
    path.write_text(text)
    return path


@pytest.fixture
def lfw(tmp_path):
    """Ann 10, 20, 30 - Bob 130, 140 - Cy 30, no face."""
    for name, greys in {"Ann": (10, 20, 30), "Bob": (130, 140), "Cy": (30, NO_FACE)}.items():
        for number, grey in enumerate(greys, start=1):
            picture(tmp_path, name, number, grey)
    return tmp_path


def evaluate(source, **options):
    return run_evaluate(EvaluateOptions(source, **options), look, "fake")


# figures


def tally(genuine, impostor, *thresholds):
    distances = np.array(genuine + impostor, np.float32)
    return tally_pairs(distances, np.arange(len(distances)) < len(genuine), bin_edges(*thresholds))


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_confidence_interval_is_the_published_one(count, of, low, high):
    got = wilson(count, of)  # Newcombe 1998, table I, method 3
    assert [round(float(b), 4) for b in got] == [low, high]


def test_the_interval_of_no_error_starts_at_zero_and_of_all_errors_ends_at_one():
    assert wilson(0, 7)[0] == 0
    assert wilson(7, 7)[1] == 1


def test_rates_of_hand_made_distances():
    t = tally([0.1, 0.2, 0.3, 0.8], [0.25, 0.9, 1.0, 1.1])
    assert (t.fmr(0.5).rate, t.fnmr(0.5).rate, t.accuracy(0.5).rate) == (0.25, 0.25, 0.75)
    assert t.eer() == (0.25, pytest.approx(0.55, abs=1e-3))


def test_a_distance_equal_to_the_threshold_does_not_match():
    distances = np.array([0.7, np.nextafter(0.7, 0)])  # float64: float32 has no 0.7
    assert count_bins(distances, bin_edges())[:700].sum() == 1


def test_the_eer_between_two_edges_lies_on_the_line_between_them():
    edges = np.array([0.0, 1.0, 2.0])
    t = Tally(edges, np.array([2, 2]), np.array([1, 3]), 4, 4)
    assert t.eer() == (pytest.approx(0.4), pytest.approx(1.2))


def test_with_too_many_refusals_there_is_no_eer():
    inf = float("inf")
    assert tally([0.1, inf, inf], [0.9, inf, inf]).eer() is None


def test_counts_at_a_threshold_between_the_bins_are_exact():
    t = tally([0.70031, 0.70033], [0.70032], 0.70032)
    assert t.matches(0.70032) == (1, 0)


def test_the_best_threshold_is_the_middle_of_the_widest_best_gap():
    genuine = np.array([0.2, 0.5, 1.3], np.float32)
    impostor = np.array([0.9, 1.0, 1.4], np.float32)
    got = best_threshold(np.concatenate([genuine, impostor]), np.arange(6) < 3)
    assert got == pytest.approx(0.7)


def test_the_best_threshold_never_counts_a_refused_pair_as_a_match():
    distances = np.array([0.5, np.inf, np.inf, 1.0], np.float32)
    got = best_threshold(distances, np.array([True, True, True, False]))
    assert got == pytest.approx(0.75)


def test_all_pairs_counts_are_those_of_brute_force():
    rng = np.random.default_rng(7)
    vectors = rng.standard_normal((61, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    subjects, usable = rng.integers(0, 9, 61), rng.random(61) > 0.1
    edges = bin_edges(0.7)
    pairs = np.array(list(itertools.combinations(range(61), 2)))
    refusals = tuple(None if u else "no face" for u in usable)
    listed = Embedded(vectors, refusals, (None,) * 61).distances(pairs)
    want = tally_pairs(listed, subjects[pairs[:, 0]] == subjects[pairs[:, 1]], edges)
    for block in (7, 512):
        got = tally_all(vectors, usable, subjects, edges, block)
        assert (got.genuine_pairs, got.impostor_pairs) == (want.genuine_pairs, want.impostor_pairs)
        # a matrix product rounds otherwise than a sum: a count may slip to the next bin
        assert np.abs(np.cumsum(got.genuine - want.genuine)).max() <= 1
        assert np.abs(np.cumsum(got.impostor - want.impostor)).max() <= 1
        assert got.matches(0.7) == want.matches(0.7)
        assert got.impostor.sum() == want.impostor.sum() > 0


# whole runs


def test_a_pairs_file_is_judged_at_the_fixed_threshold(lfw):
    pairs = pairs_file(lfw, "test.txt", "2\nAnn\t1\t2\nBob\t1\t2\nAnn\t1\tBob\t1\nAnn\t3\tCy\t1\n")
    report = evaluate(pairs)
    assert report.threshold == 0.7
    assert (report.fnmr.count, report.fmr.count) == (0, 1)  # Ann's third picture is as Cy's first
    assert report.accuracy.rate == 0.75
    assert report.refused.count == 0


def test_a_picture_without_a_face_fails_every_genuine_pair_and_matches_nobody(lfw):
    picture(lfw, "Cy", 3, 30)
    pairs = pairs_file(lfw, "test.txt", "3\nCy 1 2\nCy 2 3\nAnn 1 2\nAnn 1 Bob 1\nAnn 2 Cy 2\nBob 2 Cy 2\n")
    report = evaluate(pairs)
    assert (report.fnmr.count, report.fnmr.of) == (2, 3)
    assert report.fmr.count == 0
    assert (report.refused.count, report.refused.of) == (1, 7)
    assert report.refusals == {"no face": 1}
    assert all(at.fnmr.count >= 2 for at in report.thresholds)


def test_a_face_refused_by_the_gate_counts_the_same_and_is_drawn(lfw):
    picture(lfw, "Ann", 4, BLURRED)
    pairs = pairs_file(lfw, "test.txt", "1\nAnn 3 4\nAnn 1 Bob 1\n")
    report = evaluate(pairs, annotate=lfw / "refused")
    assert report.fnmr.rate == 1
    assert report.refusals == {"blurred": 1}
    assert [p.name for p in (lfw / "refused").iterdir()] == ["Ann-Ann_0004.png"]


def test_the_threshold_comes_from_the_other_split_whatever_the_measured_one_would_like(lfw):
    test = pairs_file(lfw, "test.txt", "1\nAnn 1 2\nAnn 3 Cy 1\n")
    reports = []
    for near, far in ((1, 2), (3, 8)):
        folder = lfw / f"train-{near}"
        picture(folder, "Di", 1, 20)
        picture(folder, "Di", 2, 20 + STEP * near)
        picture(folder, "Ed", 1, 20 + STEP * far)
        train = pairs_file(folder, "train.txt", "1\nDi 1 2\nDi 1 Ed 1\n")
        for who in ("Ann", "Cy"):  # one `images` folder serves both splits
            (folder / who).symlink_to(lfw / who)
        reports.append(evaluate(test, threshold_from=train, images=folder))
    got = [r.threshold for r in reports]
    want = [(apart(1) + apart(2)) / 2, (apart(3) + apart(8)) / 2]
    assert got == pytest.approx(want, abs=1e-6)
    assert reports[0].threshold_from == "train.txt"


def test_a_threshold_fitted_to_the_measured_split_is_refused(lfw):
    pairs = pairs_file(lfw, "test.txt", "1\nAnn 1 2\nAnn 1 Bob 1\n")
    with pytest.raises(DatasetError, match="expected another split than the measured one"):
        evaluate(pairs, threshold_from=pairs)


def test_a_folder_is_compared_all_against_all(lfw):
    report = evaluate(lfw)
    assert report.mode == "all pairs"
    assert (report.genuine_pairs, report.impostor_pairs) == (3 + 1 + 1, 21 - 5)
    assert report.fnmr.count == 1  # Cy's second has no face
    assert report.fmr.count == 3  # Cy's first is within 0.2 of each of Ann's


def test_all_pairs_of_a_pairs_file_are_those_of_the_pictures_it_names(lfw):
    pairs = pairs_file(lfw, "test.txt", "1\nAnn 1 2\nAnn 3 Bob 1\n")
    report = evaluate(pairs, all_pairs=True)
    assert (report.pictures, report.genuine_pairs, report.impostor_pairs) == (4, 3, 3)


def test_view_two_judges_each_fold_at_the_best_threshold_of_the_others(tmp_path):
    # within fold 1 people are 1 step apart and strangers 4, in the others 1 and 9; the middle
    # of the others' gap calls fold 1's strangers the same person
    lines = []
    for fold, far in enumerate((4, 9, 9)):
        one, two = f"A{fold}", f"B{fold}"
        for name, number, grey in ((one, 1, 20), (one, 2, 20 + STEP), (two, 1, 20 + STEP * far)):
            picture(tmp_path, name, number, grey)
        lines += [f"{one}\t1\t2", f"{one}\t1\t{two}\t1"]
    report = evaluate(pairs_file(tmp_path, "pairs.txt", "3\t1\n" + "\n".join(lines) + "\n"))
    assert report.folds.accuracies == (0.5, 1, 1)
    assert report.folds.thresholds[0] == pytest.approx((apart(1) + apart(9)) / 2, abs=1e-6)
    assert report.folds.mean_accuracy == pytest.approx(5 / 6)
    assert report.folds.standard_error == pytest.approx(1 / 6)  # sd 0.2887 / sqrt(3)


def test_the_expected_fpir_grows_with_the_gallery_from_the_measured_fmr(lfw):
    report = evaluate(lfw)
    first = report.fpir[0]
    assert first.expected == pytest.approx(1 - (1 - 3 / 16) ** first.templates)
    assert all(f.expected <= f.upper for f in report.fpir)


def test_the_json_has_the_fields_of_the_report_and_the_text_its_figures(lfw):
    report = evaluate(lfw)
    data = json.loads(report.json())
    assert set(data) == {
        "dataset", "mode", "models", "pictures", "subjects", "genuine_pairs", "impostor_pairs", "refused",
        "refusals", "quality", "threshold", "threshold_from", "accuracy", "fmr", "fnmr", "eer",
        "thresholds", "folds", "fpir", "plots", "notes",
    }  # fmt: skip
    assert set(data["fmr"]) == {"count", "of", "rate", "low", "high"}
    text = "\n".join(report.lines())
    assert "FMR        18.75 %" in text
    assert "label errors in the data are not removed" in text


def test_each_picture_is_looked_at_once(lfw):
    pairs = pairs_file(lfw, "test.txt", "2\nAnn 1 2\nAnn 1 3\nAnn 1 Bob 1\nAnn 1 Bob 2\n")
    train = pairs_file(lfw, "train.txt", "1\nAnn 2 3\nAnn 1 Bob 1\n")
    seen, told = [], []

    def counting(pixels):
        seen.append(pixels)
        return look(pixels)

    options = EvaluateOptions(pairs, threshold_from=train)
    run_evaluate(options, counting, "fake", lambda done, total: told.append((done, total)))
    assert len(seen) == 5
    assert told == [(i, 5) for i in range(1, 6)]


def test_the_real_models_tell_two_men_apart(tmp_path, pipeline):
    for name, who in (("obama", "a"), ("obama2", "a"), ("obama3", "a"), ("biden", "b")):
        (tmp_path / who).mkdir(exist_ok=True)
        (tmp_path / who / f"{name}.jpg").symlink_to(Path(__file__).parent / "pictures" / f"{name}.jpg")
    report = run_evaluate(EvaluateOptions(tmp_path), pipeline, pipeline.embedder.model)
    assert (report.genuine_pairs, report.impostor_pairs) == (3, 3)
    assert (report.refused.count, report.fmr.count, report.fnmr.count) == (0, 0, 0)


# bad input


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ":1: expected PAIRS or FOLDS PAIRS, got ''"),
        ("ten\n", ":1: expected PAIRS or FOLDS PAIRS, got 'ten'"),
        ("0\n", ":1: expected PAIRS or FOLDS PAIRS, got '0'"),
        ("1\nAnn 1 2\n", r"expected 1 x \(1 genuine \+ 1 impostor\) pairs, got 1 lines"),
        ("1\nAnn 1 Bob 1\nAnn 1 2\n", ":2: expected NAME N M, got 'Ann 1 Bob 1'"),
        ("1\n\nAnn 1 2\nAnn 1\n", ":4: expected NAME N OTHER M, got 'Ann 1'"),
        ("1\nAnn 1 two\nAnn 1 Bob 1\n", ":2: expected NAME N M with two different pictures"),
        ("1\nAnn 1 1\nAnn 1 Bob 1\n", ":2: expected NAME N M with two different pictures"),
        ("1\nAnn 1 2\nAnn 1 Ann 2\n", ":3: expected NAME N OTHER M with two different pictures"),
        ("1\n../x 1 2\nAnn 1 Bob 1\n", ":2: expected NAME N M with two different pictures"),
    ],
)
def test_a_malformed_pairs_file_is_told_where_and_what_was_expected(text, message, tmp_path):
    with pytest.raises(DatasetError, match=f"^p.txt{message}" if message[0] == ":" else message) as error:
        parse_pairs(text, "p.txt", tmp_path)
    assert "\n" not in str(error.value)


def test_missing_pictures_are_named_before_the_long_work(lfw):
    pairs = pairs_file(lfw, "test.txt", "1\nAnn 1 9\nAnn 1 Bob 1\n")
    with pytest.raises(ImageError, match=r"1 of 3 pictures are missing: .*Ann_0009\.jpg"):
        run_evaluate(EvaluateOptions(pairs), lambda _: pytest.fail("looked at a picture"), "fake")


def test_a_picture_that_is_none_is_an_error_not_a_refusal(lfw):
    (lfw / "Bob" / "Bob_0002.jpg").write_bytes(b"not a picture")
    with pytest.raises(ImageError, match=r"Bob_0002\.jpg"):
        evaluate(lfw)


@pytest.mark.parametrize(
    ("people", "message"),
    [
        ({}, "expected a sub-folder of pictures per subject"),
        ({"Ann": (10, 20)}, "expected two subjects or more, got no impostor pair"),
        ({"Ann": (10,), "Bob": (20,)}, "expected a subject with two pictures or more, got no genuine pair"),
        ({"Ann": (0, 0), "Bob": (0,)}, "expected a face that passes the gate in at least one of 3 pictures"),
    ],
)
def test_a_folder_that_shows_nothing_is_refused(people, message, tmp_path):
    for name, greys in people.items():
        for number, grey in enumerate(greys, start=1):
            picture(tmp_path, name, number, grey)
    with pytest.raises(DatasetError, match=message):
        evaluate(tmp_path)


def test_a_source_that_is_not_there_or_no_text_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="No such file"):
        open_dataset(tmp_path / "pairs.txt")
    (tmp_path / "pairs.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DatasetError, match="UTF-8 text"):
        open_dataset(tmp_path / "pairs.txt")


@pytest.mark.parametrize("threshold", [0, -1, 2.1, float("nan")])
def test_a_threshold_outside_the_distances_is_refused(threshold, lfw):
    with pytest.raises(DoordError, match="expected 0 < threshold <= 2"):
        evaluate(lfw, threshold=threshold)


# plots and progress


def test_plots_are_three_pictures(lfw):
    pytest.importorskip("matplotlib")
    report = evaluate(lfw, plots=lfw.parent / "plots", threshold=0.6)
    names = [path.rsplit("/", 1)[1] for path in report.plots]
    assert names == ["distances.png", "roc.png", "det.png"]
    for path in report.plots:
        drawn = cv2.imread(path)
        assert drawn.shape[1] > 400
        assert drawn.std() > 5


def test_without_matplotlib_plots_say_what_to_install_before_the_long_work(lfw, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    options = EvaluateOptions(lfw, plots=lfw / "plots")
    with pytest.raises(DoordError, match=r"pip install 'doord\[plots\]'"):
        run_evaluate(options, lambda _: pytest.fail("looked at a picture"), "fake")


def test_nothing_of_matplotlib_is_needed_without_plots(lfw, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert evaluate(lfw).plots == ()


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_drawn_on_a_terminal_only(terminal, monkeypatch):
    written = []
    stderr = SimpleNamespace(isatty=lambda: terminal, write=written.append, flush=lambda: None)
    monkeypatch.setattr(sys, "stderr", stderr)
    draw = bar("pictures")
    draw(1, 2)
    draw(2, 2)
    assert [bool(written), "".join(written).endswith("2/2\n")] == [terminal, terminal]
