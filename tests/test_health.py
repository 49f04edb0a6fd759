import cv2
import numpy as np
import pytest

from edge.config import CameraConfig
from edge.values import Frame
from edge.vision.health import CameraHealth, sight_of

CONFIG = CameraConfig(stall_s=2, frozen_s=1, blind_s=10)
FPS = 10
BLACK = np.zeros((120, 160, 3), np.uint8)


class Watch:
    """A judge and its clock: shows frames at 10 a second and notes every change of the verdict."""

    def __init__(self, live=True):
        self.health = CameraHealth(CONFIG, live)
        self.now = 1000.0
        self.verdicts = [self.health.fault(self.now)]
        self._noise = np.random.default_rng(3)

    def show(self, pixels, seconds, grain=True):
        for _ in range(round(seconds * FPS)):
            self.tick()
            grained = pixels + self._noise.normal(0, 2, pixels.shape) if grain else pixels
            self.health.saw(Frame(np.clip(grained, 0, 255).astype(np.uint8), self.now), self.now)
            self.note()

    def replay(self, frames):
        for pixels in frames:
            self.tick()
            self.health.saw(Frame(pixels, self.now), self.now)
            self.note()

    def nothing(self, seconds):
        for _ in range(round(seconds * FPS)):
            self.tick()
            self.note()

    def tick(self):
        self.now += 1 / FPS

    def note(self):
        fault = self.health.fault(self.now)
        if fault != self.verdicts[-1]:
            self.verdicts.append(fault)


@pytest.fixture(scope="module")
def scene(picture):
    return cv2.resize(picture("obama.jpg"), (320, 240))


@pytest.fixture
def watch():
    return Watch()


FROZEN = "frozen: byte-identical frames for more than 1 s"
COVERED = "black or covered for more than 10 s"
BLURRED = "blurred for more than 10 s"
SILENT = "no frame for more than 2 s"
LOOPING = "looping: frames repeat"


def test_a_living_picture_is_no_fault(watch, scene):
    watch.show(scene, 60)
    assert watch.verdicts == [None]


def test_a_camera_that_never_came_is_a_fault_after_the_stall_time(watch):
    watch.nothing(1.9)
    assert watch.verdicts == [None]
    watch.nothing(0.3)
    assert watch.verdicts == [None, SILENT]


def test_a_camera_that_falls_silent_is_a_fault_until_it_was_healthy_for_a_second(watch, scene):
    watch.show(scene, 3)
    watch.nothing(3)
    assert watch.verdicts == [None, SILENT]
    watch.show(scene, 0.9)
    assert watch.verdicts == [None, SILENT]
    watch.show(scene, 0.3)
    assert watch.verdicts == [None, SILENT, None]


def test_identical_frames_are_a_fault_after_more_than_a_second(watch, scene):
    watch.show(scene, 3)
    watch.show(scene, 1.0, grain=False)
    assert watch.verdicts == [None]
    watch.show(scene, 0.3, grain=False)
    assert watch.verdicts == [None, FROZEN]


def test_one_grey_level_in_one_pixel_is_not_frozen(watch, scene):
    changing = scene.copy()
    for i in range(50):
        changing[0, 0, 0] = i
        watch.show(changing, 1 / FPS, grain=False)
    assert watch.verdicts == [None]


def test_a_camera_that_sends_every_frame_twice_is_no_fault_and_recovers_like_any(watch, scene):
    noise = np.random.default_rng(0)
    frames = [np.clip(scene + noise.normal(0, 2, scene.shape), 0, 255).astype(np.uint8) for _ in range(40)]
    doubled = [f for f in frames for _ in range(2)]
    watch.replay(doubled[:40])
    watch.nothing(3)
    watch.replay(doubled[40:])
    assert watch.verdicts == [None, SILENT, None]


def test_a_black_picture_is_a_fault_after_ten_seconds_and_is_not_called_frozen(watch, scene):
    watch.show(scene, 1)
    watch.show(BLACK, 9.9, grain=False)
    assert watch.verdicts == [None]
    watch.show(BLACK, 5, grain=False)
    assert watch.verdicts == [None, COVERED]
    watch.show(scene, 1.2)
    assert watch.verdicts == [None, COVERED, None]


@pytest.mark.parametrize("level", [60, 128, 255])
def test_a_lens_under_tape_is_covered_however_bright(watch, level):
    watch.show(np.full((120, 160, 3), level, np.uint8), 11)
    assert watch.verdicts == [None, COVERED]


def test_a_dark_room_with_one_lamp_is_covered_too(watch):
    room = BLACK.copy()
    room[10:18, 10:18] = 255
    watch.show(room, 11)
    assert watch.verdicts == [None, COVERED]


def test_a_face_in_a_dark_room_is_not_covered(watch, picture):
    room = np.zeros((480, 640, 3), np.uint8)
    room[200:280, 300:360] = cv2.resize(picture("obama.jpg")[60:400, 300:600], (60, 80)) // 2
    watch.show(room, 11)
    assert watch.verdicts == [None]


def test_a_blurred_picture_is_a_fault_after_ten_seconds(watch, picture):
    blurred = cv2.GaussianBlur(cv2.resize(picture("obama.jpg"), (640, 480)), (0, 0), 12)
    watch.show(blurred, 9.9)
    assert watch.verdicts == [None]
    watch.show(blurred, 1)
    assert watch.verdicts == [None, BLURRED]


@pytest.mark.parametrize("name", ["obama.jpg", "obama2.jpg", "biden.jpg", "astronaut.jpg"])
@pytest.mark.parametrize("light", [0.3, 1.0])
def test_an_ordinary_picture_is_neither_blurred_nor_blind(picture, name, light):
    pixels = picture(name)
    scale = 480 / pixels.shape[0]
    sight = sight_of((cv2.resize(pixels, None, fx=scale, fy=scale) * light).astype(np.uint8))
    assert not sight.blind
    assert not sight.blurred


def test_an_even_wall_with_grain_is_not_called_blurred():
    wall = np.full((480, 640, 3), 150.0) + np.linspace(-12, 12, 640)[None, :, None]
    grained = wall + np.random.default_rng(0).normal(0, 2, wall.shape)
    assert not sight_of(grained.astype(np.uint8)).blurred


def test_a_short_blindness_is_forgotten(watch, scene):
    for _ in range(5):
        watch.show(BLACK, 8)
        watch.show(scene, 0.5)
    assert watch.verdicts == [None]


def test_a_blink_of_light_does_not_end_a_blindness(watch, scene):
    watch.show(BLACK, 11)
    for _ in range(10):
        watch.show(scene, 0.5)
        watch.show(BLACK, 3)
    assert watch.verdicts == [None, COVERED]


def test_a_flapping_camera_has_to_prove_itself_longer_each_time(watch, scene):
    for _ in range(20):
        watch.show(scene, 3)
        watch.nothing(3)
    assert watch.verdicts == [None, SILENT, None, SILENT, None, SILENT]  # healthy for 1, 2, then 4 s
    watch.show(scene, 5)
    assert watch.verdicts[-1] is None


def recording(scene, seconds):
    noise = np.random.default_rng(9)
    return [
        np.clip(scene + noise.normal(0, 2, scene.shape), 0, 255).astype(np.uint8)
        for _ in range(seconds * FPS)
    ]


def test_a_looped_recording_is_found_when_it_begins_again(watch, scene):
    clip = recording(scene, 4)
    watch.replay(clip)
    assert watch.verdicts == [None]
    watch.replay(clip[:3])
    assert watch.verdicts == [None, LOOPING]
    watch.replay(clip[3:] + clip + clip)
    assert watch.verdicts == [None, LOOPING]


def test_a_loop_of_which_every_third_frame_is_missed_is_still_found(watch, scene):
    clip = recording(scene, 5)
    seen = [f for i, f in enumerate(clip * 4) if i % 3]
    watch.replay(seen)
    assert LOOPING in watch.verdicts


def test_one_frame_that_comes_again_is_no_loop(watch, scene):
    clip = recording(scene, 4)
    watch.replay([*clip, clip[10], clip[30], *recording(scene // 2, 4)])
    assert watch.verdicts == [None]


def test_a_file_in_simulation_may_loop_but_not_freeze(scene):
    watch = Watch(live=False)
    clip = recording(scene, 3)
    watch.replay(clip * 4)
    assert watch.verdicts == [None]
    watch.show(scene, 2, grain=False)
    assert watch.verdicts == [None, FROZEN]


def test_a_loop_longer_than_the_memory_goes_unseen_and_the_memory_stays_bounded(watch, scene):
    small = scene[::8, ::8]
    clip = recording(small, 40)
    watch.replay(clip * 2)
    assert watch.verdicts == [None]
    assert len(watch.health._loop._known) <= 30 * FPS + 1


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (121, 119), (4096, 2)])
def test_frames_of_any_size_are_judged(size):
    health = CameraHealth(CONFIG)
    health.saw(Frame(np.full((*size, 3), 90, np.uint8), 0.0), 0.0)
    assert health.fault(0.1) is None


def test_a_change_of_resolution_is_no_fault(watch, scene):
    watch.show(scene, 3)
    watch.show(cv2.resize(scene, (640, 480)), 3)
    assert watch.verdicts == [None]


@pytest.mark.parametrize("age_s", [0.6, 60.0, -0.1])
def test_a_camera_whose_every_frame_is_too_old_to_let_anybody_in_is_at_fault(watch, scene, age_s):
    """Each would be refused as stale, while the door called itself armed."""
    frames = [(scene + np.uint8(n)) for n in range(60)]
    for pixels in frames[:40]:
        watch.tick()
        watch.health.saw(Frame(pixels, watch.now - age_s), watch.now)
        watch.note()
    late = "late: every frame is older than 500 ms when it comes"
    assert watch.verdicts == [None, late]
    watch.replay(frames[40:])
    assert watch.verdicts == [None, late, None]


def test_now_and_then_a_late_frame_is_no_fault(watch, scene):
    for n in range(100):
        watch.tick()
        watch.health.saw(Frame(scene + np.uint8(n), watch.now - (0.9 if n % 10 else 0.1)), watch.now)
        watch.note()
    assert watch.verdicts == [None]
