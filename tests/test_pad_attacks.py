"""Synthetic presentation attacks: the same seed makes the same, and the optics are those of the books."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pad_attacks
import pytest
from conftest import PICTURES
from pad_motion import STILL, Pose, Sheet, band_noise, bounds, look_at, turned
from pad_optics import Camera, defocus_sigma_px, expose, otf, to_linear, to_srgb
from pad_scene import HEIGHT, WIDTH, film, open_source
from pad_species import SPECIES, draw
from pad_surface import Lattice, moire, tone_table

from edge.evaluate.presentations import Presentation, list_presentations

CAMERA = Camera(550, 0.4, 1.3, 0, 1.0, 1e9, 0, 1 / 50, 5e-5, 0, 90)


@pytest.fixture(scope="module")
def obama(pipeline):
    return open_source(PICTURES / "obama.jpg", "obama", 1, lambda p: pipeline(p).faces)


def shot(species, **changes):
    return replace(draw(species, "x", 7, np.random.default_rng(7)), **changes)


# optics


def test_linear_light_and_back_is_the_same_picture():
    codes = np.arange(256, dtype=np.uint8)
    assert np.abs(to_srgb(to_linear(codes)).astype(int) - codes).max() <= 1


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_a_coloured_scene_comes_through_the_mosaic_in_its_colour(channel):
    scene = np.zeros((32, 32, 3), np.float32)
    scene[..., channel] = 0.5
    seen = expose(scene, 1.0, CAMERA, np.random.default_rng(1))[8:24, 8:24].mean(axis=(0, 1))
    assert seen.argmax() == channel
    assert seen[channel] == pytest.approx(188, abs=2)  # sRGB of 0.5
    assert np.delete(seen, channel).max() < 2


def test_a_camera_focused_elsewhere_blurs_by_the_thin_lens():
    fixed = replace(CAMERA, focus_mm=1000, aperture_mm=1.5, focal_px=500)
    circle = 500 * 1.5 * (1 / 200 - 1 / 1000)  # 3 px
    assert defocus_sigma_px(fixed, 200) == pytest.approx(np.hypot(0.4, circle / 4))
    assert defocus_sigma_px(fixed, 1000) == pytest.approx(0.4)


def test_the_moire_of_a_grid_is_that_of_summing_all_its_light_over_each_photosite():
    """Brute force: 40 x 40 samples a pixel of the lit cells, through box and Gaussian."""
    lattice = Lattice(0.7, (2 / 7, 5 / 7), (0.25, 0.25, 0.25), (0.0, 0.0, 0.0))
    fine, pixels, sigma = 40, 24, 0.15  # 28 samples a pitch, 8 x 20 a lit cell
    u, v = np.meshgrid(*[(np.arange(pixels * fine) + 0.5) / fine] * 2)  # 1 mm a pixel
    inside = [
        np.abs((x / lattice.pitch_mm - at + 0.5) % 1 - 0.5) < cell / 2
        for x, at, cell in ((u, 0.25, 2 / 7), (v, 0.0, 5 / 7))
    ]
    lit = (inside[0] & inside[1]) / (10 / 49)
    soft = cv2.GaussianBlur(lit, (0, 0), sigma * fine)
    seen = cv2.resize(soft, (pixels, pixels), interpolation=cv2.INTER_AREA)
    got = moire(lattice, np.stack(np.meshgrid(*[np.arange(pixels) + 0.5] * 2), axis=-1), sigma, 1.0)
    inner = slice(4, -4)
    assert seen[inner, inner].std() > 0.05
    assert np.abs(got[inner, inner, 0] - seen[inner, inner]).max() < 0.02


def test_a_fine_display_far_away_leaves_no_moire():
    sites = np.stack(np.meshgrid(*[np.arange(16) * 2.0] * 2), axis=-1)  # 2 mm a pixel
    assert moire(Lattice(0.06, (0.28, 0.9), (0, 0, 0), (0, 0, 0)), sites, 0.4, 1.0) is None


def test_a_wave_as_fine_as_a_photosite_is_gone_and_a_slow_one_stays():
    assert otf(1, 0, 0, 1.0) == pytest.approx(0, abs=1e-9)
    assert otf(0.01, 0, 0.4, 1.0) > 0.99


# motion


@pytest.mark.parametrize("radius", [np.inf, 120.0, -120.0])
@pytest.mark.parametrize("upright", [True, False])
def test_a_ray_to_a_point_of_a_sheet_finds_that_point(radius, upright):
    sheet = Sheet((60, 80), radius, upright)
    pose = Pose(np.array([10.0, -20.0, 400.0]), turned(12, -7, 20))
    uv = np.array([[0, 0], [50, 0], [-50, 30], [20, -70], [-10, 60.0]])
    there = sheet.points(uv) @ pose.turn.T + pose.middle
    got = sheet.seen(-pose.turn.T @ pose.middle, (there / there[:, 2:]) @ pose.turn)
    assert got == pytest.approx(uv, abs=1e-6)


def test_each_pixel_of_a_plane_face_on_sees_its_pinhole_image():
    sheet, pose = Sheet((100, 100)), Pose(np.array([0.0, 0.0, 500.0]), np.eye(3))
    box = bounds(sheet, pose, 500, (WIDTH, HEIGHT), 0)
    assert box == (220, 140, 420, 340)
    uv = look_at(sheet, pose, 500, (WIDTH, HEIGHT), box, 1, np.zeros(2))
    assert uv[0, 0] == pytest.approx((-99.5, -99.5))
    assert uv[-1, -1] == pytest.approx((99.5, 99.5))


def test_a_tremor_lies_between_8_and_12_hz():
    wave = band_noise(10, 8, 12, np.random.default_rng(1))
    power = np.abs(np.fft.rfft(wave)) ** 2
    band = np.fft.rfftfreq(len(wave), 1 / 240)
    assert power[(band >= 8) & (band <= 12)].sum() / power.sum() > 0.999
    assert wave.std() == pytest.approx(1)


# surfaces and clips


def test_ink_is_never_black_and_paper_never_brighter_than_the_light_on_it_by_much():
    for seed in range(50):
        surface = draw("print-hand", "x", 0, np.random.default_rng(seed)).surface
        table = tone_table(surface)
        assert table[0].min() >= 0.005
        assert table[-1].max() <= 1.15
        assert (np.diff(table, axis=0) >= 0).all()


@pytest.mark.parametrize("species", SPECIES)
def test_the_face_of_every_species_is_found_in_its_clip(species, obama, pipeline):
    changes = {"face_size": 1.0, "shown_faces": 2.0, "motion": STILL}
    frame = next(film(shot(species, **changes), obama, None, 0.1, 10))
    assert frame.shape == (HEIGHT, WIDTH, 3)
    face = pipeline(frame).face
    assert face is not None
    assert 80 < face.box[2] < 320


def test_the_same_seed_films_the_same_frames_and_another_others(obama):
    one, same = (next(film(shot("phone-photo-hand"), obama, None, 0.1, 10)) for _ in range(2))
    other = next(film(shot("phone-photo-hand", seed=8), obama, None, 0.1, 10))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_what_stands_does_not_move_and_what_is_held_does(obama):
    def moved(species):
        frames = list(film(shot(species), obama, None, 1, 4))
        return np.abs(frames[0].astype(int) - frames[-1]).mean()

    assert moved("print-hand") > 2 * moved("print-stand")


def test_a_source_without_a_face_is_left_out(tmp_path, pipeline):
    cv2.imwrite(str(tmp_path / "wall.png"), np.full((480, 640, 3), 128, np.uint8))
    assert open_source(tmp_path / "wall.png", "wall", 1, lambda p: pipeline(p).faces) is None


def test_attacks_lie_as_evaluate_reads_them_with_their_parameters_beside(tmp_path):
    for name in ("obama", "biden"):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"{name}_1.jpg").write_bytes((PICTURES / f"{name}.jpg").read_bytes())
    out = tmp_path / "out"
    words = [str(tmp_path / "in"), str(out), "--species", "print-bent", "--seconds", "0.2", "--workers", "1"]
    assert pad_attacks.main(words) == 0
    assert [p.person for p in list_presentations(out / "genuine", None)] == ["biden", "obama"]
    made = list_presentations(out / "attack" / "print-bent", "print-bent")
    assert [(p.person, p.path.name) for p in made] == [("biden", "biden_1.avi"), ("obama", "obama_1.avi")]
    told = json.loads((out / "attack" / "print-bent" / "obama" / "obama_1.json").read_text())
    assert told["species"] == "print-bent"
    assert told["radius_mm"] is not None
    first = made[0].path.read_bytes()
    assert pad_attacks.main(words) == 0  # nothing is made twice
    assert made[0].path.read_bytes() == first


def test_a_picture_is_not_replayed_and_nobody_stands_behind_himself(tmp_path):
    sources = [Presentation(p, None, tmp_path / f"{p}.jpg") for p in ("ann", "bob")]
    made = pad_attacks.plans(sources, tmp_path, list(SPECIES), 1, 1, 10)
    assert {p.species for p in made} == {name for name, kind in SPECIES.items() if not kind.video}
    assert all(p.behind.person != p.shown.person for p in made)
    assert made == pad_attacks.plans(sources, tmp_path, list(SPECIES), 1, 1, 10)


def test_one_person_s_clips_under_different_names_get_one(tmp_path):
    for name in ("obama", "obama2", "biden"):
        (tmp_path / f"{name}.jpg").write_bytes((PICTURES / f"{name}.jpg").read_bytes())
    renamed = pad_attacks.by_face(list_presentations(tmp_path, None))
    assert [p.person for p in renamed] == ["biden", "obama", "obama"]
