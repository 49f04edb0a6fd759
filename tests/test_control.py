"""The gallery desk, at the files and over the daemon's socket: the same answers either way."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from broker import wait_until

from edge import control
from edge.config import Config, DoorConfig, RelayConfig
from edge.control import MAX_MESSAGE_BYTES, ControlServer, EnrolCamera, RemoteDesk
from edge.desk import LocalDesk
from edge.disk import FileKey
from edge.errors import (
    ConfigError,
    DoordError,
    EnrolmentError,
    GalleryError,
    ImageError,
    LooksLikeAnother,
    NoFace,
    PayloadError,
)
from edge.faces import make_enroller
from edge.identity.store import open_gallery

PICTURES = Path(__file__).parent / "pictures"


def photo(name: str) -> tuple[str, bytes]:
    return name, (PICTURES / name).read_bytes()


@pytest.fixture
def local(tmp_path, pipeline):
    store = open_gallery(tmp_path / "state" / "gallery.db", FileKey(tmp_path / "state" / "gallery.key"))
    config = Config("hq", "front", DoorConfig(RelayConfig(17)))
    changes = []
    desk = LocalDesk(store, make_enroller(config, pipeline, store), None, lambda: changes.append(1))
    desk.changes = changes
    yield desk
    store.close()


def refuse(action, minutes):
    return False


def sync(folder):
    if folder == "/empty":
        raise GalleryError("site gallery: is signed, but not published")
    return f"version 7 is in force, from {folder}"


def reload():
    raise ConfigError("config.yaml: door.unlock_s: expected a value <= 60.0, got 500")


@contextmanager
def served(desk, path: Path):
    server = ControlServer(
        path, lambda: desk, lambda: b'{"armed":true}', lambda action, minutes: action == "pulse", sync, reload
    )
    done = threading.Event()

    def turn():
        while not done.is_set():
            server.step()

    thread = threading.Thread(target=turn, daemon=True)
    thread.start()
    wait_until(lambda: RemoteDesk.find(path), "the server listens")
    try:
        yield RemoteDesk.find(path)
    finally:
        done.set()
        thread.join(5)
        server.close()


@pytest.fixture(params=["local", "remote"])
def desk(request, local, tmp_path):
    if request.param == "local":
        yield local
    else:
        with served(local, tmp_path / "control.sock") as remote:
            yield remote


def test_a_person_is_enrolled_listed_and_removed(desk, local):
    report = desk.enrol("obama", [photo("obama.jpg"), photo("obama2.jpg")], False)
    assert (report.added, report.total) == (2, 2)
    assert [(r.subject, r.templates) for r in desk.subjects()] == [("obama", 2)]
    assert desk.remove("obama") == 2
    assert desk.subjects() == []
    assert desk.remove("obama") == 0
    assert len(local.changes) >= 2


def test_each_refusal_keeps_its_class_and_words(desk):
    with pytest.raises(ImageError, match=r"note\.txt"):
        desk.enrol("obama", [("note.txt", b"hello")], False)
    desk.enrol("obama", [photo("obama.jpg")], False)
    with pytest.raises(LooksLikeAnother, match="looks like subject obama"):
        desk.enrol("barack", [photo("obama2.jpg")], False)
    with pytest.raises(GalleryError, match="expected 1 to 32"):
        desk.enrol("Obama!", [photo("obama.jpg")], False)
    assert [r.subject for r in desk.subjects()] == ["obama"]


def test_a_gallery_travels_encrypted_and_comes_back_once(desk, local):
    desk.enrol("obama", [photo("obama.jpg")], False)
    data = desk.export("correct horse")
    assert b"obama" not in data
    desk.remove("obama")
    with pytest.raises(GalleryError):
        desk.import_(data, "wrong")
    assert desk.import_(data, "correct horse") == 1
    assert desk.import_(data, "correct horse") == 0
    assert [r.subject for r in desk.subjects()] == ["obama"]


def test_an_enrolment_without_a_camera_says_so(desk):
    with pytest.raises(EnrolmentError, match="no camera"):
        desk.enrol_camera("obama", False)


def test_a_desk_without_models_enrols_nobody(local):
    bare = LocalDesk(local._store, None)
    with pytest.raises(EnrolmentError, match="no model runs here"):
        bare.enrol("obama", [photo("obama.jpg")], False)


def test_a_sitting_that_takes_too_long_enrols_nobody(local, pipeline, picture):
    local._take_pictures = lambda count, apart_s, timeout_s, wanted: [picture("obama.jpg")] * 2
    with pytest.raises(EnrolmentError, match="expected 5 good pictures within 15 s, got 2"):
        local.enrol_camera("obama", False)
    assert local.subjects() == []


def test_the_status_comes_over_the_socket(local, tmp_path):
    with served(local, tmp_path / "s") as remote:
        assert remote.status() == b'{"armed":true}'


def test_a_daemon_without_a_gallery_says_so_and_still_tells_its_status(tmp_path):
    with served(None, tmp_path / "s") as remote:
        with pytest.raises(GalleryError, match="see doord doctor"):
            remote.subjects()
        assert remote.status()


def test_nobody_listens_on_a_socket_that_is_not_there_or_left_behind(tmp_path):
    assert RemoteDesk.find(tmp_path / "none") is None
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / "left"))
    left.close()
    assert RemoteDesk.find(tmp_path / "left") is None


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\x00",
        struct.pack(">I", MAX_MESSAGE_BYTES + 1),
        struct.pack(">I", 4) + b"\xff\xff\xff\xff",
        struct.pack(">I", 100) + b"short",
        struct.pack(">I", 2) + b"\x80\x00",
        struct.pack(">I", 200) + b"\x91" * 200,
        struct.pack(">I", 26) + b"\x82\xa4type\xa6Remove\xa7subject\xa2\xff\xfe ",
    ],
)
def test_no_garbage_stops_the_server(local, tmp_path, garbage):
    path = tmp_path / "s"
    with served(local, path) as remote:
        with socket.socket(socket.AF_UNIX) as talk:
            talk.settimeout(5)
            talk.connect(str(path))
            talk.sendall(garbage)
            talk.shutdown(socket.SHUT_WR)
            talk.recv(1000)
        assert remote.subjects() == []


def test_only_owner_and_group_may_ask(local, tmp_path):
    with served(local, tmp_path / "s"):
        assert (tmp_path / "s").stat().st_mode & 0o777 == 0o660


def test_a_picture_without_a_face_enrols_nobody(desk):
    import cv2
    import numpy as np

    blank = cv2.imencode(".png", np.full((300, 300, 3), 90, np.uint8))[1].tobytes()
    with pytest.raises(NoFace, match=r"blank\.png"):
        desk.enrol("obama", [("blank.png", blank)], False)


def test_a_foreign_answer_is_no_answer(tmp_path):
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen(1)
        server.settimeout(5)

        def liar():
            for _ in range(2):
                talk, _ = server.accept()
                with talk:
                    talk.settimeout(1)
                    try:
                        talk.recv(100)
                        talk.sendall(struct.pack(">I", 3) + b"abc")
                    except OSError:
                        pass

        thread = threading.Thread(target=liar, daemon=True)
        thread.start()
        remote = RemoteDesk.find(path)
        with pytest.raises(PayloadError, match="did not answer"):
            remote.subjects()
        thread.join(5)


def test_a_second_server_does_not_take_the_first_ones_place(local, tmp_path):
    path = tmp_path / "s"
    with served(local, path) as remote:
        second = ControlServer(path, lambda: None, lambda: b"{}", refuse, sync, reload)
        with pytest.raises(DoordError, match="another doord listens here"):
            second.step()
        second.close()
        assert remote.subjects() == []


def test_a_place_without_room_for_a_socket_is_a_fault_that_names_it(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DoordError, match="Not a directory"):
        ControlServer(tmp_path / "file" / "s", lambda: None, lambda: b"{}", refuse, sync, reload).step()


def test_who_only_knocks_is_not_logged(local, tmp_path, caplog):
    with served(local, tmp_path / "s") as remote:
        for _ in range(3):
            RemoteDesk.find(tmp_path / "s")
        remote.subjects()
    assert "hung up on" not in caplog.text


def test_who_hangs_up_during_a_sitting_enrols_nobody(local, tmp_path, picture):
    """Else the next who passes by would be enrolled under that id, and walk in."""
    began, over = threading.Event(), threading.Event()

    def take(count, apart_s, timeout_s, wanted):
        began.set()
        wait_until(lambda: not wanted(), "the client's hang-up is noticed")
        over.set()
        return [picture("obama.jpg")] * count

    local._take_pictures = take
    with served(local, tmp_path / "s") as remote:
        content = msgspec.msgpack.encode(EnrolCamera("sneaky", False))
        with socket.socket(socket.AF_UNIX) as talk:
            talk.connect(str(tmp_path / "s"))
            talk.sendall(struct.pack(">I", len(content)) + content)
            assert began.wait(10)
        assert over.wait(10)
        assert remote.subjects() == []


def test_a_client_that_says_nothing_holds_nobody_up_for_long(local, tmp_path, monkeypatch):
    monkeypatch.setattr(control, "_TALK_S", 0.2)
    monkeypatch.setattr(control, "_ANSWER_S", 10)
    with served(local, tmp_path / "s") as remote, socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(tmp_path / "s"))
        silent.sendall(b"\0")
        assert remote.subjects() == []


def test_a_door_is_told_to_sync_and_says_what_came_of_it(local, tmp_path):
    path = tmp_path / "s"
    with served(local, path):
        desk = RemoteDesk(path)
        assert desk.sync(None) == "version 7 is in force, from None"
        assert desk.sync("/media/stick") == "version 7 is in force, from /media/stick"
        with pytest.raises(GalleryError, match="not published"):
            desk.sync("/empty")


def test_a_lockdown_waits_for_no_sync_and_for_no_enrolment(tmp_path):
    """A sync may take two minutes, an enrolment on a slow board ten."""
    go_on, asked = threading.Event(), []

    def hangs(folder):
        asked.append(folder)
        go_on.wait(10)
        return "in force"

    class SlowDesk:
        def subjects(self):
            hangs("desk")
            return []

    path = tmp_path / "control.sock"
    server = ControlServer(
        path, SlowDesk, lambda: b"{}", lambda action, _: action == "lockdown", hangs, reload
    )
    stopping = threading.Event()

    def turn():
        while not stopping.is_set():
            server.step()

    turning = threading.Thread(target=turn, daemon=True)
    turning.start()
    wait_until(lambda: RemoteDesk.find(path), "the server listens")
    remote, came = RemoteDesk(path), []
    slow = [lambda: came.append(remote.sync("a")), *[lambda: came.append(remote.subjects())] * 15]
    waiting = [threading.Thread(target=call, daemon=True) for call in slow]
    try:
        for thread in waiting:
            thread.start()
        wait_until(lambda: sorted(asked) == ["a", "desk"], "a sync and one of the desk's clients are served")
        wait_until(lambda: not server._room.acquire(blocking=False) or server._room.release(), "no more room")
        assert remote.order("lockdown", 0.0)
        assert remote.status() == b"{}"
        with pytest.raises(DoordError, match="16 clients wait already"):
            remote.subjects()
        go_on.set()
        for thread in waiting:
            thread.join(10)
        assert sorted(map(str, came)) == [*["[]"] * 15, "in force"]
        assert remote.subjects() == []  # there is room again
    finally:
        go_on.set()
        stopping.set()
        turning.join(10)  # it accepts on the socket that closes now
        server.close()
