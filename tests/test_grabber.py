import threading
import time

import pytest
from fakes import CLOSE, OPEN, READ, FakeCameras, number_of, shot, until

from edge.config import CameraConfig
from edge.errors import CameraError
from edge.vision.grabber import Grabber

CONFIG = CameraConfig(stall_s=0.3)


@pytest.fixture
def grab():
    """grab(factory): a started grabber, stopped at the end."""
    grabbers = []

    def start(factory, **options):
        grabbers.append(Grabber(factory, CONFIG, **options))
        grabbers[-1].start()
        return grabbers[-1]

    yield start
    for grabber in grabbers:
        grabber.stop()


def test_only_the_newest_of_a_burst_is_looked_at(grab):
    all_shown, go_on = threading.Event(), threading.Event()
    cameras = FakeCameras([*(shot(i) for i in range(20)), all_shown.set, go_on.wait, shot(21)])
    grabber = grab(cameras)
    assert all_shown.wait(5)
    assert number_of(grabber.newest(5).pixels) == 19
    assert grabber.newest(0.05) is None
    go_on.set()
    assert number_of(grabber.newest(5).pixels) == 21


def test_a_frame_is_never_returned_twice(grab):
    cameras = FakeCameras([shot(1)])
    grabber = grab(cameras)
    assert number_of(grabber.newest(5).pixels) == 1
    assert until(lambda: grabber.ended)
    assert grabber.newest(0.05) is None


def test_a_frame_keeps_the_time_it_was_taken_at_however_late_it_is_asked_for(grab):
    grabber = grab(FakeCameras([shot(1)]))
    assert until(lambda: grabber.ended)
    before = time.monotonic()
    assert grabber.newest(0).taken_at < before


def test_newest_waits_for_a_frame(grab):
    go_on = threading.Event()
    grabber = grab(FakeCameras([go_on.wait, shot(3)]))
    threading.Timer(0.1, go_on.set).start()
    assert number_of(grabber.newest(5).pixels) == 3


def test_a_clip_that_ended_is_not_opened_again(grab):
    cameras = FakeCameras([shot(1), shot(2)])
    grabber = grab(cameras)
    assert until(lambda: grabber.ended)
    assert number_of(grabber.newest(0).pixels) == 2  # the last picture is not lost
    assert grabber.newest(0.5) is None
    assert [c.history for c in cameras.opened] == [[OPEN, READ, READ, READ, CLOSE]]
    assert grabber.problem is None


def test_a_camera_that_comes_back_works_without_a_restart(grab):
    cameras = FakeCameras([shot(1), CameraError("unplugged")], [CameraError("still away")], [shot(2)])
    grabber = grab(cameras)
    assert number_of(grabber.newest(5).pixels) == 1
    assert until(lambda: grabber.problem == "unplugged")
    assert number_of(grabber.newest(5).pixels) == 2
    assert grabber.problem is None
    assert until(lambda: grabber.ended)
    assert [c.history[-1] for c in cameras.opened] == [CLOSE, CLOSE, CLOSE]


def test_a_camera_that_can_not_be_opened_is_tried_again(grab):
    cameras, failures = FakeCameras([shot(5)]), [CameraError("no such device"), CameraError("no such device")]

    def open_source():
        if failures:
            raise failures.pop()
        return cameras()

    grabber = grab(open_source)
    assert number_of(grabber.newest(5).pixels) == 5


def test_the_pause_before_opening_again_grows_to_a_limit_and_varies():
    pauses = []

    class Clockwork(Grabber):
        def __init__(self):
            super().__init__(FakeCameras([CameraError("away")]), CONFIG)
            self._stopping.wait = self._pause

        def _pause(self, seconds):
            pauses.append(seconds)
            if len(pauses) == 40:
                self._stopping.set()
                self._turn += 1

    grabber = Clockwork()
    grabber.start()
    assert until(lambda: len(pauses) == 40)
    grabber.stop()
    assert 0.1 <= pauses[0] <= 0.2
    assert all(1 <= p <= 2 for p in pauses[6:])
    assert len(set(pauses[6:])) > 10


@pytest.mark.parametrize("error", [ValueError("bad\nbytes"), MemoryError(), ZeroDivisionError()])
def test_whatever_a_driver_throws_the_camera_is_opened_again(grab, error):
    cameras = FakeCameras([error], [shot(4)])
    grabber = grab(cameras)
    assert number_of(grabber.newest(5).pixels) == 4
    assert cameras.opened[0].history == [OPEN, READ, CLOSE]


def test_a_reader_stuck_in_the_driver_is_left_behind_and_its_late_frame_is_dropped(grab):
    stuck = threading.Event()
    cameras = FakeCameras([stuck.wait, shot(1)], [shot(2), lambda: time.sleep(0.2)])
    grabber = grab(cameras, stuck_s=0.2)
    assert number_of(next(filter(None, (grabber.newest(0.05) for _ in range(200)))).pixels) == 2
    stuck.set()
    assert until(lambda: cameras.opened[0].history == [OPEN, READ, CLOSE])
    assert grabber.newest(0.05) is None


def test_a_driver_that_sticks_for_ever_costs_a_bounded_number_of_threads(grab):
    stuck = threading.Event()
    cameras = FakeCameras([stuck.wait])
    grabber = grab(cameras, stuck_s=0.02)
    assert until(lambda: grabber.newest(0.01) is None and len(cameras.opened) == 4)
    for _ in range(20):
        assert grabber.newest(0.02) is None
    assert len(cameras.opened) == 4
    assert "4 readers stuck" in grabber.problem
    stuck.set()


def test_stop_is_bounded_even_when_the_driver_is_stuck():
    stuck = threading.Event()
    grabber = Grabber(FakeCameras([stuck.wait, shot(1)]), CONFIG)
    grabber.start()
    stopper = threading.Thread(target=grabber.stop)
    stopper.start()
    stopper.join(10)
    assert not stopper.is_alive()
    stuck.set()
    assert grabber.newest(0.2) is None  # what the stuck reader brings after the stop is not taken


def test_stop_closes_the_source():
    cameras = FakeCameras([shot(i) for i in range(5)] + [lambda: time.sleep(0.1)] * 20 + [shot(6)])
    grabber = Grabber(cameras, CONFIG)
    grabber.start()
    assert grabber.newest(5) is not None
    grabber.stop()
    assert until(lambda: cameras.opened[0].history[-1] == CLOSE)
    assert len(cameras.opened) == 1


def test_the_reader_is_called_camera(grab):
    names = []
    grabber = grab(FakeCameras([lambda: names.append(threading.current_thread().name), shot(1)]))
    assert grabber.newest(5) is not None
    assert names == ["camera"]


def test_the_same_failure_is_logged_once(grab, caplog):
    cameras = FakeCameras(*[[CameraError("unplugged")]] * 3, [shot(1)])
    grabber = grab(cameras)
    assert grabber.newest(10) is not None
    assert [r.getMessage() for r in caplog.records] == ["unplugged; it is tried again for ever"]
