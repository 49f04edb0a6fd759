"""`doord pad`: faces and synthetic attacks recorded, kept sealed, fitted, put in force and taken back."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from broker import wait_until
from conftest import PICTURES
from door_site import Site, clip
from pad_motion import STILL
from pad_scene import film, open_source
from pad_species import draw
from tuned_data import CROPS, SIZE, door

from edge import __version__, models
from edge.cli import main
from edge.cli_pad import lines
from edge.config import ModelsConfig, load_config, parse_config
from edge.control import RemoteDesk
from edge.disk import FileKey
from edge.errors import EnrolmentError, GalleryError, ModelError, TuningRefused
from edge.identity.pad import Limit
from edge.identity.tuning import Recording, fit
from edge.identity.tuning_file import Kept, Origin, Recorded, Row, TuningFile, export_tuning, import_tuning
from edge.liveness import PadSubsystem, load_texture
from edge.passphrase import encrypt
from edge.shares import Share
from edge.tuning import (
    ExportTune,
    Fit,
    FittedRow,
    Forget,
    ImportTune,
    Keep,
    LocalTuner,
    Record,
    RecordedRow,
    Rollback,
    Show,
    TuneState,
    origin_of,
    taker,
)
from edge.values import Frame
from edge.vision.colour_lbp import SIZE as PATTERNS
from edge.vision.colour_lbp import colour_lbp
from edge.vision.tuned import Tuned, features

PASSPHRASE = "correct horse"
FEATURES = PATTERNS + CROPS


def config_text(folder: Path, more: str = "") -> str:
    return (
        f"site: hq\ndoor_id: front\nstate_dir: {folder}\nsocket: {folder / 's'}\n"
        f"door: {{relay: {{line: 17}}}}\n{more}"
    )


def config(folder: Path, more: str = ""):
    return parse_config(config_text(folder, more))


@pytest.fixture(scope="module")
def texture(tmp_path_factory):
    return load_texture(ModelsConfig())


@pytest.fixture
def file(tmp_path) -> TuningFile:
    FileKey(tmp_path / "gallery.key").create(tmp_path / "gallery.db")
    return TuningFile(tmp_path / "pad.sealed", FileKey(tmp_path / "gallery.key"))


@pytest.fixture
def tuner(tmp_path, file, texture) -> LocalTuner:
    return LocalTuner(config(tmp_path), file, texture)


def origin(tmp_path, texture) -> Origin:
    return origin_of(config(tmp_path), texture)


def kept(recordings, where: Origin) -> list[Recorded]:
    return [Recorded.of(own, where, f"2026-01-01T00:00:{i:02d}Z") for i, own in enumerate(recordings)]


@pytest.fixture
def filled(tuner, tmp_path, texture) -> LocalTuner:
    """Enough recordings for a fit."""
    for one in kept(door(size=FEATURES), origin(tmp_path, texture)):
        tuner.do(Keep(one))
    return tuner


# features of real pictures


def test_a_flat_surface_has_one_pattern_in_every_channel():
    found = colour_lbp(np.full((100, 80, 3), 128, np.uint8)).reshape(6, 59)
    assert found.shape == (6, PATTERNS // 6)
    assert (found.max(axis=1) == 1).all()
    assert (np.count_nonzero(found, axis=1) == 1).all()


def test_the_patterns_of_a_channel_are_shares_and_no_place_is_kept(picture):
    face = picture("obama.jpg")[100:300, 100:300]
    found = colour_lbp(face)
    assert (found.reshape(6, 59) ** 2).sum(axis=1) == pytest.approx(np.ones(6), abs=1e-5)
    assert found.shape == (PATTERNS,)


def test_a_tuned_layer_gives_what_its_model_says_of_the_features(picture, pipeline, texture):
    pixels = picture("obama.jpg")
    face = pipeline(pixels).face
    found = features(pixels, face, texture)
    weights = np.linspace(-1, 1, found.size)
    assert Tuned(texture, weights, 0.5).score(pixels, face, 0.0) == pytest.approx(found @ weights + 0.5)
    assert found[-3:].mean() == pytest.approx(texture.score(pixels, face, 0.0))


def test_where_the_texture_has_no_verdict_the_tuned_layer_has_none(texture, pipeline, picture):
    face = pipeline(picture("obama.jpg")).face
    black = np.zeros_like(picture("obama.jpg"))
    assert features(black, face, texture) is None
    assert math.isnan(Tuned(texture, np.ones(PATTERNS + 3), 0.0).score(black, face, 0.0))


def test_a_model_of_other_features_is_none(texture):
    with pytest.raises(ModelError, match=r"expected 357 weights, got 7"):
        Tuned(texture, np.ones(7), 0.0)
    with pytest.raises(ModelError, match="finite"):
        Tuned(texture, np.full(FEATURES, math.nan), 0.0)


def test_two_layers_that_ask_about_one_frame_run_the_network_once(texture, pipeline, picture):
    pixels = picture("obama.jpg")
    face = pipeline(pixels).face
    assert texture.parts(pixels, face) is not texture.parts(pixels, face)
    assert texture._asked(pixels, face) is texture._asked(pixels, face)
    other = picture("biden.jpg")
    assert texture.score(other, pipeline(other).face, 0.0) != texture.score(pixels, face, 0.0)


def test_what_a_synthetic_attack_and_its_source_look_like_is_told_apart_for_somebody_else(pipeline, texture):
    """Real pictures: two people and a tablet to learn from, a third and his to be judged."""
    take = taker(texture)

    def seen(name: str, species: str | None) -> Recording:
        source = open_source(PICTURES / f"{name}.jpg", name, 1, lambda p: pipeline(p).faces)
        if species is None:
            base = source.pictures[0]
            shown = [np.roll(base, (i, 2 * i), (0, 1)) for i in range(3)]
        else:
            shot = draw(species, name, 7, np.random.default_rng(7))
            shown = list(
                film(replace(shot, face_size=1.0, shown_faces=2.0, motion=STILL), source, None, 0.75, 4.0)
            )
        rows = [row for p in shown if (row := take(Frame(p, 0.0), pipeline(p))) is not None]
        return Recording(name, species, np.stack(rows), len(texture.scales))

    learned = [seen(who, kind) for who in ("obama", "biden") for kind in (None, "tablet-photo-stand")]
    model = fit(learned)
    alive, attack = (model(seen("astronaut", kind).features).mean() for kind in (None, "tablet-photo-stand"))
    assert alive > attack


# what is kept


def test_what_is_kept_is_sealed_and_names_nobody(filled, tmp_path):
    data = (tmp_path / "pad.sealed").read_bytes()
    assert b"phone" not in data
    assert (tmp_path / "pad.sealed").stat().st_mode & 0o777 == 0o600
    (tmp_path / "pad.sealed").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(GalleryError, match="altered"):
        filled.do(Show())


def test_another_doors_key_opens_nothing(filled, tmp_path):
    (tmp_path / "gallery.key").write_text("0" * 64 + "\n")
    with pytest.raises(GalleryError, match="another key"):
        filled.do(Show())


def test_a_recording_comes_back_as_it_was_but_for_half_precision(tmp_path, texture):
    own = door()[0]
    again = Recorded.of(own, origin(tmp_path, texture), "2026-01-01T00:00:00Z").recording()
    assert (again.person, again.species, again.crops) == (own.person, own.species, CROPS)
    assert again.features.shape == (9, SIZE)
    assert np.abs(again.features - own.features).max() < 5e-3


def test_a_recording_is_no_longer_than_is_kept(tmp_path, texture):
    long = Recording("a", None, np.zeros((900, SIZE), np.float32), CROPS)
    assert Recorded.of(long, origin(tmp_path, texture), "x").frames == 600


def test_a_recording_that_is_not_finite_is_refused(tuner, tmp_path, texture):
    bad = Recording("a", None, np.full((3, FEATURES), np.inf, np.float32), CROPS)
    with pytest.raises(GalleryError, match="finite"):
        tuner.do(Keep(Recorded.of(bad, origin(tmp_path, texture), "x")))


# fit, roll back, forget, carry


def test_a_fit_is_put_in_force_and_can_be_taken_back(filled, tmp_path, texture):
    assert filled.do(Show()).missing is None
    first = filled.do(Fit())
    assert (first.model.people, first.unused, first.has_before) == (4, None, False)
    with pytest.raises(TuningRefused, match="no model before"):
        filled.do(Rollback())
    for one in kept(door("efgh", ("tablet",), size=FEATURES), origin(tmp_path, texture)):
        filled.do(Keep(one))
    second = filled.do(Fit())
    assert (second.model.people, second.has_before) == (8, True)
    assert filled.do(Rollback()).model == first.model
    assert filled.do(Rollback()).model == second.model


def test_a_fit_that_is_refused_changes_nothing(tuner, file):
    before = file.load()
    with pytest.raises(TuningRefused, match="not tuned: expected genuine recordings of at least 2 people"):
        tuner.do(Fit())
    assert file.load() == before


def test_forgetting_leaves_nothing_or_the_models_alone(filled, tmp_path):
    filled.do(Fit())
    only = filled.do(Forget(recordings_only=True))
    assert (only.recordings, only.model is not None) == ((), True)
    assert filled.do(Forget(recordings_only=False)).model is None
    assert not (tmp_path / "pad.sealed").exists()


def test_a_tune_is_carried_under_a_passphrase(filled, file, tmp_path, texture):
    filled.do(Fit())
    data = filled.do(ExportTune(PASSPHRASE)).exported
    assert b"phone" not in data
    filled.do(Forget(recordings_only=False))
    with pytest.raises(GalleryError, match="wrong passphrase"):
        filled.do(ImportTune(data, "another horse"))
    state = filled.do(ImportTune(data, PASSPHRASE))
    assert (len(state.recordings), state.model.people) == (12, 4)
    assert filled.do(ImportTune(data, PASSPHRASE)) == state  # twice adds nothing


@pytest.mark.parametrize("spoil", [b"", b"not a tune", b"doord tuning\0\x01"])
def test_another_file_is_refused(tuner, spoil):
    with pytest.raises(GalleryError):
        tuner.do(ImportTune(spoil, PASSPHRASE))
    with pytest.raises(GalleryError, match="format"):
        import_tuning(b"doord tuning\0\x02" + bytes(80), PASSPHRASE)


def test_what_another_camera_recorded_is_refused(filled, tmp_path, file, texture):
    data = filled.do(ExportTune(PASSPHRASE)).exported
    elsewhere = LocalTuner(config(tmp_path, "camera: {source: '1'}"), file, texture)
    with pytest.raises(TuningRefused, match="camera was 0, and is 1"):
        elsewhere.do(ImportTune(data, PASSPHRASE))
    assert "at least 2 people, got 0" in elsewhere.do(Show()).missing
    plain = Kept(recordings=tuple(kept(door(), origin(tmp_path, texture))))
    assert import_tuning(export_tuning(plain, PASSPHRASE), PASSPHRASE) == plain


def _exported(spoil, tuner) -> bytes:
    whole = import_tuning(tuner.do(ExportTune(PASSPHRASE)).exported, PASSPHRASE)
    return export_tuning(spoil(whole), PASSPHRASE)


def _other_size(whole: Kept) -> Kept:
    one = whole.recordings[0]
    half = msgspec.structs.replace(one, size=119)  # a third of 357
    return msgspec.structs.replace(whole, recordings=(*whole.recordings[1:], half))


def _other_crops(whole: Kept) -> Kept:
    more = tuple(msgspec.structs.replace(one, crops=64) for one in whole.recordings)
    return msgspec.structs.replace(whole, recordings=more)


def _short_model(whole: Kept) -> Kept:
    return msgspec.structs.replace(whole, model=msgspec.structs.replace(whole.model, weights=bytes(56)))


@pytest.mark.parametrize("spoil", [_other_size, _other_crops, _short_model])
def test_a_file_of_other_features_is_refused_and_what_is_in_force_stays(filled, file, spoil):
    filled.do(Fit())
    before = file.load()
    with pytest.raises(TuningRefused, match="expected 357 features, 3 of them crops, got"):
        filled.do(ImportTune(_exported(spoil, filled), PASSPHRASE))
    assert file.load() == before


def test_a_file_whose_figures_are_impossible_is_refused(filled):
    filled.do(Fit())

    whole = import_tuning(filled.do(ExportTune(PASSPHRASE)).exported, PASSPHRASE)
    told = msgspec.msgpack.decode(msgspec.msgpack.encode(whole))
    told["model"]["genuine"]["presentations"] = [1, 0]
    data = encrypt(b"doord tuning\0", 1, msgspec.msgpack.encode(told), PASSPHRASE)
    with pytest.raises(GalleryError, match="at most as many errors as presentations"):
        filled.do(ImportTune(data, PASSPHRASE))


def test_a_texture_model_that_looks_otherwise_round_a_face_has_other_eyes(tmp_path, texture, tuner):
    fitted_for(tmp_path, texture, tuner)
    folder = tmp_path / "models"
    shutil.copytree(Path(models.__file__).parent, folder, ignore=shutil.ignore_patterns("build"))
    manifest = folder / "manifest.yaml"
    text = manifest.read_text()
    manifest.write_text(text.replace("scales: [1.0, 1.5, 2.7]", "scales: [1.0, 1.5, 2.0]"))
    pad = subsystem(tmp_path, f"models: {{dir: {folder}}}")
    assert list(pad.limits) == ["texture"]
    assert pad.note == "texture was minifasnet-se-1 (1, 1.5, 2.7), and is minifasnet-se-1 (1, 1.5, 2)"


def test_a_model_of_other_features_in_the_file_closes_the_door_to_faces_alone(tmp_path, texture, tuner, file):
    fitted_for(tmp_path, texture, tuner)
    file.save(_short_model(file.load()))
    pad = subsystem(tmp_path)
    assert (pad.limits, pad.why_not()) == ({}, ["pad: tuned: expected 357 weights, got 7: doord pad fit"])


# at the camera


def test_a_recording_keeps_features_of_frames_with_one_face_alone(pipeline, texture, picture):
    take = taker(texture)
    one, wall = picture("obama.jpg"), np.full((300, 300, 3), 128, np.uint8)
    other = cv2.resize(picture("biden.jpg"), None, fx=1.5, fy=1.5)[: one.shape[0]]
    two = np.hstack([one, other])
    assert take(Frame(one, 0.0), pipeline(one)).shape == (PATTERNS + 3,)
    assert len(pipeline(two).faces) == 2
    assert [take(Frame(p, 0.0), pipeline(p)) for p in (wall, two)] == [None, None]


def test_who_was_not_seen_often_enough_is_not_recorded(tmp_path, file, texture):
    def sit(take, count, apart_s, timeout_s, wanted):
        assert (count, timeout_s) == (8, 7.0)
        return [np.ones(PATTERNS + 3, np.float32)] * 2

    tuner = LocalTuner(config(tmp_path), file, texture, sit)
    with pytest.raises(EnrolmentError, match="at least 3 frames with one face"):
        tuner.do(Record("a", None, 2.0))
    with pytest.raises(EnrolmentError, match="given up"):
        tuner.do(Record("a", None, 2.0), lambda: False)
    assert tuner.do(Show()).recordings == ()


# in force


def subsystem(tmp_path, more: str = "") -> PadSubsystem:
    return PadSubsystem(config(tmp_path, more), lambda: "enforce")


def fitted_for(tmp_path, texture, tuner) -> None:
    for one in kept(wide(), origin(tmp_path, texture)):
        tuner.do(Keep(one))
    tuner.do(Fit())


def wide() -> list[Recording]:
    """Of real features' size, so that the layer can score."""
    return [
        Recording(o.person, o.species, np.tile(o.features, (1, 20))[:, : PATTERNS + 3], 3) for o in door()
    ]


def test_a_tuned_model_judges_instead_of_the_texture_whose_score_is_still_told(
    tmp_path, texture, tuner, picture, pipeline
):
    assert subsystem(tmp_path).limits == {"texture": Limit(2.0, 0.0)}
    fitted_for(tmp_path, texture, tuner)
    pad, model = subsystem(tmp_path, "pad: {live: 99}"), tuner.do(Show()).model
    assert pad.limits == {"tuned": Limit(model.live, model.unsure)}
    assert (pad.problem, pad.note, pad.tuned_at_utc) == (None, None, model.at_utc)
    pixels = picture("obama.jpg")
    scores = pad.check(pixels, pipeline(pixels).face, 0.0)
    assert math.isfinite(scores["texture"])
    assert math.isfinite(scores["tuned"])


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("camera: {source: '1'}", "camera was 0, and is 1"),
        ("camera: {width: 1280, height: 720}", "width was 640, and is 1280"),
        ("camera: {rotation: 90}", "view was 0 degrees, 0, 0, 1, 1, and is 90 degrees, 0, 0, 1, 1"),
    ],
)
def test_a_model_of_another_camera_is_not_used_and_the_door_says_so(
    tmp_path, texture, tuner, more, words, caplog
):
    fitted_for(tmp_path, texture, tuner)
    pad = subsystem(tmp_path, more)
    assert (pad.note, pad.problem, list(pad.limits)) == (words, None, ["texture"])
    assert pad.tuned_at_utc is None
    assert f"the tuned model is not used: {words}" in caplog.text


def test_a_model_of_another_doord_is_not_used(tmp_path, texture, tuner, file):
    fitted_for(tmp_path, texture, tuner)
    old = file.load()
    file.save(msgspec.structs.replace(old, model=msgspec.structs.replace(old.model, doord="0.0.1")))
    assert subsystem(tmp_path).note == f"doord was 0.0.1, and is {__version__}"
    assert tuner.do(Show()).unused == f"doord was 0.0.1, and is {__version__}"


@pytest.mark.parametrize("spoil", ["damaged", "no key"])
def test_a_tune_that_can_not_be_read_closes_the_door_to_faces_alone(tmp_path, texture, tuner, spoil):
    fitted_for(tmp_path, texture, tuner)
    if spoil == "damaged":
        (tmp_path / "pad.sealed").write_bytes(b"damaged" * 20)
    else:
        (tmp_path / "gallery.key").unlink()
    pad = subsystem(tmp_path)
    rule = pad.rule(with_card=False)
    assert (pad.limits, rule.limits, rule.unjudged) == ({}, {}, False)
    assert pad.why_not() == [f"pad: {pad.problem}"]
    assert "pad.sealed" in pad.problem or "gallery.key" in pad.problem


# the command


def test_what_is_shown_of_a_tune_is_rounded_against_us_and_moves_no_cursor():
    row = Row("phone", (1, 40), (1, 40), (3, 40))
    model = FittedRow("\x1b[2J", "0", "t", "1", 1.0, 0.0, 4, (row,), row)
    told = lines(TuneState((), model, None, None, False))
    assert all(line.isprintable() for line in told)
    share = Share(1, 40)
    assert (share.low, share.high) == (pytest.approx(0.000633, abs=1e-6), pytest.approx(0.131586, abs=1e-6))
    assert any("1 of 40, 0.0 % to 13.2 %" in line for line in told)


def test_the_command_records_clips_tells_what_is_missing_and_forgets(tmp_path, capsys):
    site = Site(tmp_path)
    site.config["pad"] = {"mode": "enforce"}
    site.write()
    clip(tmp_path / "c.avi", ["obama.jpg"], seconds=1.5, empty_s=0.1)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["pad", *arguments, "-c", str(site.path)])
        said = capsys.readouterr()
        return code, said.out, said.err

    code, out, _ = run("record", "--genuine", "obama", "--from", str(tmp_path / "c.avi"))
    assert (code, "1, 5 frames" in out) == (0, True)
    assert run("fit")[0] == 2
    assert "got 1" in run("fit")[2]
    run("record", "--attack", "print", "--of", "obama", "--from", str(tmp_path / "c.avi"))
    state = json.loads(run("show", "--json")[1])
    assert [(r["person"], r["species"]) for r in state["recordings"]] == [("obama", None), ("obama", "print")]
    assert "not tuned to this door" in _doctor(site, capsys)
    secret = tmp_path / "secret"
    secret.write_text(PASSPHRASE + "\n")
    code, out, _ = run("export", str(tmp_path / "out"), "--passphrase-file", str(secret))
    assert (code, "encrypted" in out) == (0, True)
    assert "recordings  0" in run("forget")[1]
    assert "recordings  2" in run("import", str(tmp_path / "out"), "--passphrase-file", str(secret))[1]
    assert run("rollback")[0] == 2
    assert run("tune", "obama")[0] == 2
    assert run("record", "--genuine", "Not An Id", "--from", str(tmp_path / "c.avi"))[0] == 2


def test_files_of_the_camera_are_turned_and_cut_as_its_live_picture_is(tmp_path, capsys, picture):
    one, other = (cv2.resize(picture(f"{name}.jpg")[:500], (480, 480)) for name in ("obama", "biden"))
    (tmp_path / "filmed").mkdir()
    wall = np.full((480, 960, 3), 128, np.uint8)
    filmed = np.rot90(np.vstack([np.hstack([one, other]), wall]), 2)  # by a camera mounted upside down
    for i in range(4):
        cv2.imwrite(str(tmp_path / "filmed" / f"{i}.png"), cv2.cvtColor(filmed, cv2.COLOR_RGB2BGR))

    def record(**camera: object) -> tuple[int, str]:
        site = Site(tmp_path, camera={"source": "file:none", "fps": 4, **camera})
        source = str(tmp_path / "filmed")
        code = main(["pad", "record", "--genuine", "a", "--from", source, "-c", str(site.path)])
        said = capsys.readouterr()
        return code, said.out + said.err

    for camera in ({"rotation": 180}, {"region": [0.0, 0.0, 0.5, 0.5]}):
        code, said = record(**camera)
        assert (code, "expected at least 3 frames with one face" in said) == (2, True)
    code, said = record(rotation=180, region=[0.0, 0.0, 0.5, 0.5])
    assert (code, "1, 4 frames" in said) == (0, True)


class Scripted:
    """Sibling of a tuner: the second recording fails once; `asked` is all it was asked."""

    def __init__(self) -> None:
        self.asked: list[object] = []

    def do(self, request, wanted=lambda: True):
        self.asked.append(request)
        if len(self.asked) == 2:
            raise EnrolmentError("nobody was there")
        rows = (RecordedRow("a", None, 60, "2026-01-01T00:00:00Z"),)
        return TuneState(rows, None, None, None, False)


def test_the_guide_asks_for_everybody_and_every_attack_again_until_it_is_good(tmp_path, capsys, monkeypatch):
    site, tuner = Site(tmp_path), Scripted()
    monkeypatch.setattr("edge.tools.local.open_tuner", lambda config, stack: tuner)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    answers = iter(["", "", "", "", "s", "", ""])
    monkeypatch.setattr("builtins.input", lambda _: next(answers))
    code = main(
        ["pad", "tune", "ann", "bob", "--attacks", "phone,mask", "--seconds", "5", "-c", str(site.path)]
    )
    assert code == 0
    assert tuner.asked == [
        Record("ann", None, 5),
        Record("bob", None, 5),
        Record("bob", None, 5),
        Record("ann", "phone", 5),
        Record("ann", "mask", 5),
        Record("bob", "mask", 5),
        Fit(),
    ]
    assert "again: nobody was there" in capsys.readouterr().out


def test_clips_are_evaluated_by_the_layer_tuned_at_this_door(tmp_path, tuner, texture, capsys):
    for one in kept(door(size=PATTERNS + 3), origin(tmp_path, texture)):
        tuner.do(Keep(one))
    tuner.do(Fit())
    (tmp_path / "config.yaml").write_text(config_text(tmp_path))
    for folder in ("genuine/ann", "attack/print/ann"):
        (tmp_path / "set" / folder).mkdir(parents=True)
        (tmp_path / "set" / folder / "1.jpg").write_bytes((PICTURES / "obama.jpg").read_bytes())

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(
            ["evaluate", "--pad", str(tmp_path / "set"), *arguments, "-c", str(tmp_path / "config.yaml")]
        )
        said = capsys.readouterr()
        return code, said.out, said.err

    code, out, _ = run("--layers", "texture,tuned")
    assert code == 0
    live = tuner.do(Show()).model.live
    assert f"tuned: tuned >= {live:.4g}" in out
    assert "3 frames, 250 ms apart" in out
    (tmp_path / "config.yaml").write_text(config_text(tmp_path, "pad: {frames: 2, every_ms: 300}\n"))
    assert "2 frames, 300 ms apart" in run("--layers", "texture")[1]  # as that door decides
    assert f"tuned >= {live:.4g}" in run("--layers", "tuned")[1]
    tuner.do(Forget(recordings_only=False))
    code, _, err = run("--layers", "tuned")
    assert (code, "expected a model tuned at this door, got none" in err) == (2, True)


def test_without_a_configuration_no_door_was_tuned(tmp_path, capsys):
    assert main(["evaluate", "--pad", str(tmp_path), "--layers", "tuned"]) == 2
    assert "expected -c and the tuned door's configuration" in capsys.readouterr().err


def _doctor(site: Site, capsys) -> str:
    main(["doctor", "-c", str(site.path)])
    return capsys.readouterr().out


def test_a_recording_before_the_running_doors_camera_opens_nothing(tmp_path):
    clip(tmp_path / "clip.avi", ["obama2.jpg"], seconds=30, empty_s=0.1)
    site = Site(tmp_path, camera={"source": f"file:{tmp_path / 'clip.avi'}", "loop": True})
    with site.running():
        site.wait_for("nobody is enrolled")
        said = site.doord("pad", "record", "--genuine", "obama", "--seconds", "2").stdout
        assert "1, 8 frames" in said
        assert "AccessGranted" not in site.said
    assert "8 frames recorded, genuine" in site.said


def test_a_fit_by_the_running_door_is_in_force_at_once_and_after_a_restart(tmp_path, texture):
    site = Site(tmp_path)
    loaded = load_config(site.path)
    rows = [Recorded.of(own, origin_of(loaded, texture), "2026-01-01T00:00:00Z") for own in wide()]
    with site.running():
        wait_until(lambda: RemoteDesk.find(Path(loaded.socket)), "the door listens")
        remote = RemoteDesk(Path(loaded.socket))
        for one in rows:
            remote.do(Keep(one))
        fitted = remote.do(Fit())
        assert (fitted.unused, fitted.model.people) == (None, 4)
        assert "another tuned model is in force" in site.said
        assert "in force    yes" in site.doord("pad", "show").stdout
        with pytest.raises(TuningRefused, match="no model before"):
            remote.do(Rollback())
        site.config["camera"] = {**site.config["camera"], "width": 1280, "height": 720}
        site.write()
        site.doord("reload")
        site.wait_for("the tuned model is not used: width was 640, and is 1280")
        wait_until(lambda: site.status()["pad"]["note"], "the note stands in the status")
        assert site.status()["pad"] == {
            "mode": "monitor",
            "judged_by": [],
            "note": "width was 640, and is 1280",
        }
    pad = PadSubsystem(loaded, lambda: "enforce")
    assert (list(pad.limits), pad.problem, pad.note) == (["tuned"], None, None)
