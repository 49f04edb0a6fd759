import threading
import time

import cv2
import numpy as np
import pytest
from fakes import FakeCamera, number_of, shot, until
from mjpeg import MjpegServer

from edge.config import CameraConfig
from edge.errors import CameraError, ClipEnded
from edge.vision.camera import DriverStamps, FolderCamera, V4l2Camera, VideoFile, open_camera
from edge.vision.grabber import Grabber
from edge.vision.pictures import save_picture

SHOTS = [shot(i, (128, 96)) for i in range(1, 6)]


def write_video(path, shots, fps=50):
    size = (shots[0].shape[1], shots[0].shape[0])
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, size)
    assert writer.isOpened()
    for pixels in shots:
        writer.write(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def write_folder(folder, shots):
    folder.mkdir()
    for i, pixels in enumerate(shots):
        save_picture(folder / f"{i:03}.png", pixels)
    return folder


def config(source, **options):
    return CameraConfig(source=str(source), **({"fps": 50, "stall_s": 1, "loop": False} | options))


class Asking:
    """A network camera that sends one picture a read: it shows the newest, a slow test would miss some."""

    def __init__(self, camera, asked):
        self._camera, self._asked = camera, asked
        self.close = camera.close

    def read(self):
        self._asked.release()
        return self._camera.read()


def when_asked(wire, shots, asked):
    wire.head()
    for pixels in shots:
        while not asked.acquire(timeout=0.02):
            wire.pause(0)
        wire.frame(pixels)


@pytest.fixture(params=["video", "folder", "mjpeg", "fake"])
def source(request, tmp_path):
    """source(shots): a camera of every kind that shows these pictures, once."""
    opened, servers = [], []

    def make(shots):
        if request.param == "video":
            opened.append(open_camera(config(f"file:{write_video(tmp_path / 'clip.avi', shots)}")))
        elif request.param == "folder":
            opened.append(open_camera(config(f"folder:{write_folder(tmp_path / 'shots', shots)}")))
        elif request.param == "mjpeg":
            asked = threading.Semaphore(0)
            servers.append(MjpegServer(lambda wire, _: when_asked(wire, shots, asked)).__enter__())
            opened.append(Asking(open_camera(config(servers[0].url)), asked))
        else:
            opened.append(FakeCamera(shots))
        return opened[-1]

    yield make
    for camera in opened:
        camera.close()
    for server in servers:
        server.__exit__()


# what every source promises


def test_frames_come_in_order_and_then_no_more(source):
    camera = source(SHOTS)
    assert [number_of(camera.read().pixels) for _ in SHOTS] == [1, 2, 3, 4, 5]
    with pytest.raises(CameraError):
        camera.read()


def test_frames_are_rgb_and_read_only(source):
    red = np.zeros((96, 128, 3), np.uint8)
    red[..., 0] = 220
    pixels = source([red]).read().pixels
    assert pixels.shape == (96, 128, 3)
    assert pixels.dtype == np.uint8
    assert not pixels.flags.writeable
    assert np.allclose(pixels[48, 64], (220, 0, 0), atol=12)


def test_frames_are_stamped_while_they_are_read(source):
    before = time.monotonic()
    camera = source(SHOTS)
    stamps = [camera.read().taken_at for _ in SHOTS]
    assert before <= stamps[0]
    assert stamps == sorted(stamps)
    assert stamps[-1] <= time.monotonic()


def test_a_frame_in_hand_does_not_change_when_the_next_is_read(source):
    camera = source(SHOTS)
    first = camera.read().pixels
    copy = first.copy()
    for _ in SHOTS[1:]:
        camera.read()
    assert np.array_equal(first, copy)


def test_a_source_may_be_closed_twice(source):
    camera = source(SHOTS)
    camera.read()
    camera.close()
    camera.close()


def test_a_closed_source_gives_no_frame(source):
    camera = source(SHOTS)
    camera.close()
    with pytest.raises(CameraError):
        camera.read()


def test_a_grabber_gets_the_last_frame_of_every_source(source):
    camera = source(SHOTS)
    grabber = Grabber(lambda: camera, CameraConfig(stall_s=1))
    grabber.start()
    seen = []

    def look():
        frame = grabber.newest(0.02)
        seen.extend([number_of(frame.pixels)] if frame else [])
        return 5 in seen

    assert until(look)
    assert seen == sorted(set(seen))
    grabber.stop()


# which source


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("7", r"^/dev/video7: expected a camera, got no such device$"),
        ("/dev/none", r"^/dev/none: expected a camera, got no such device$"),
        ("/dev/null", r"^/dev/null: expected a camera, got a busy or unsuitable device$"),
        ("webcam", r"^camera.source: expected an index, a /dev path, http:\.\.\., .*, got 'webcam'$"),
        ("onvif://u:secret@host/1", r"^camera.source: expected an index, .*, got onvif:\.\.\.$"),
        ("http://", r"^camera.source: expected http://host\[:port\]/path, got a malformed URL$"),
        ("http://host:port/", r"^camera.source: expected http://host\[:port\]/path, got a malformed URL$"),
        ("file:/none.avi", r"^/none.avi: expected a video file, got nothing$"),
        ("folder:/none", r"^/none: expected a folder, got: No such file or directory$"),
    ],
)
def test_what_can_not_be_opened_is_said_in_one_line(source, words):
    with pytest.raises(CameraError, match=words):
        open_camera(config(source))


def test_a_device_without_permission_is_said(monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(CameraError, match=r"^/dev/null: expected read and write permission \(group video\)"):
        V4l2Camera(config("/dev/null"))


@pytest.mark.parametrize(
    ("stamp", "believed"),
    [(99.5, 99.5), (100.0, 100.0), (90.0, 90.0), (89.9, 100.0), (100.1, 100.0), (0.0, 100.0),
     (1.7e9, 100.0), (float("nan"), 100.0), (-1.0, 100.0)],
)  # fmt: skip
def test_a_drivers_stamp_is_believed_only_when_it_can_be_of_the_monotonic_clock(stamp, believed):
    assert DriverStamps().taken_at(stamp, 100.0) == believed


def test_once_believed_a_stamp_is_believed_however_old_it_is():
    stamps = DriverStamps()
    assert stamps.taken_at(99.9, 100.0) == 99.9
    assert stamps.taken_at(100.1, 130.0) == 100.1  # the process slept; the frame did not stay fresh
    assert stamps.taken_at(131.0, 130.5) == 130.5


def test_once_refused_the_stamps_of_a_source_are_refused():
    stamps = DriverStamps()
    assert stamps.taken_at(1.7e9, 100.0) == 100.0
    assert stamps.taken_at(100.5, 101.0) == 101.0


# video files and folders


def test_a_clip_that_loops_starts_again(tmp_path):
    camera = VideoFile(config(f"file:{write_video(tmp_path / 'a.avi', SHOTS)}", loop=True))
    assert [number_of(camera.read().pixels) for _ in range(12)] == [1, 2, 3, 4, 5] * 2 + [1, 2]
    camera.close()


def test_a_folder_that_loops_starts_again(tmp_path):
    camera = FolderCamera(config(f"folder:{write_folder(tmp_path / 'a', SHOTS[:2])}", loop=True))
    assert [number_of(camera.read().pixels) for _ in range(5)] == [1, 2, 1, 2, 1]


def test_a_clip_that_ended_says_so(tmp_path):
    for camera in (
        VideoFile(config(f"file:{write_video(tmp_path / 'a.avi', SHOTS[:1])}")),
        FolderCamera(config(f"folder:{write_folder(tmp_path / 'a', SHOTS[:1])}")),
    ):
        camera.read()
        with pytest.raises(ClipEnded):
            camera.read()


def test_a_video_is_shown_at_the_rate_it_was_filmed_at(tmp_path):
    camera = VideoFile(config(f"file:{write_video(tmp_path / 'a.avi', SHOTS, fps=20)}", fps=100))
    stamps = [camera.read().taken_at for _ in SHOTS]
    assert stamps[-1] - stamps[0] >= 3 * 0.05  # four gaps; the first stamp may be late


def test_a_folder_is_shown_at_the_configured_rate(tmp_path):
    camera = FolderCamera(config(f"folder:{write_folder(tmp_path / 'a', SHOTS)}", fps=20))
    stamps = [camera.read().taken_at for _ in SHOTS]
    assert stamps[-1] - stamps[0] >= 3 * 0.05  # four gaps; the first stamp may be late


def test_a_pause_of_the_reader_is_not_made_up_by_a_burst(tmp_path):
    camera = FolderCamera(config(f"folder:{write_folder(tmp_path / 'a', SHOTS)}", fps=20))
    camera.read()
    time.sleep(0.3)
    stamps = [camera.read().taken_at for _ in SHOTS[1:]]
    assert stamps[-1] - stamps[0] >= 2 * 0.05  # three gaps; a burst would take no time at all


def test_a_folder_shows_pictures_of_different_sizes_in_name_order(tmp_path):
    folder = write_folder(tmp_path / "a", [shot(1, (64, 48)), shot(2, (128, 96))])
    (folder / "notes.txt").write_text("not a picture")
    camera = FolderCamera(config(f"folder:{folder}"))
    assert [camera.read().pixels.shape for _ in range(2)] == [(48, 64, 3), (96, 128, 3)]


def test_a_damaged_picture_in_a_folder_is_named(tmp_path):
    folder = write_folder(tmp_path / "a", SHOTS[:1])
    (folder / "000.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(CameraError, match=r"000\.png: expected a whole picture"):
        FolderCamera(config(f"folder:{folder}")).read()


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(CameraError, match="expected JPEG, PNG, WebP or BMP pictures, got none"):
        FolderCamera(config(f"folder:{tmp_path}"))


@pytest.mark.parametrize("data", [b"", b"this is a text and no video", b"RIFF\0\0\0\0AVI LIST"])
def test_what_is_no_video_is_refused(tmp_path, data):
    (tmp_path / "a.avi").write_bytes(data)
    with pytest.raises(CameraError, match=r"a\.avi: expected a video, got"):
        VideoFile(config(f"file:{tmp_path / 'a.avi'}"))


def test_a_truncated_video_is_a_fault_and_no_clip_that_ended(tmp_path):
    path = write_video(tmp_path / "a.avi", [shot(i % 20, (128, 96)) for i in range(40)])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    camera = VideoFile(config(f"file:{path}", loop=True, fps=120))
    with pytest.raises(CameraError, match=r"a\.avi: expected .* got \d+: truncated") as fault:  # noqa: PT012  # which read finds it is not told
        for _ in range(41):
            camera.read()
    assert not isinstance(fault.value, ClipEnded)
