"""RTSP: a real server on loopback, OpenCV's FFMPEG in a real child, from a camera that misbehaves."""

import logging
import os
import re
import select
import signal
import socket
import ssl
import sys
import threading
from itertools import cycle, pairwise
from pathlib import Path

import pytest
from broker import Authority, wait_until
from clip import encode
from fakes import number_of, shot, until
from grabbing import grabbing
from rtsp import RtspServer, noise, sdp

from edge.config import CameraConfig
from edge.errors import CameraError
from edge.vision import decoder, relay
from edge.vision.camera import open_camera
from edge.vision.child import PROGRAM, Program

CLIP = encode([shot(i, (320, 240)) for i in range(1, 11)])
LARGER = encode([shot(i, (640, 480)) for i in range(11, 21)])
LOGIN = "us@er:s3cret/#"
ESCAPED = "us%40er:s3cret%2F%23"


def playing(visitor, _visit):
    visitor.play(times=500)


@pytest.fixture
def serve():
    """serve(behave, **options): a running RtspServer, killed at the end."""
    servers = []

    def start(behave=playing, **options):
        servers.append(RtspServer(behave, CLIP, **options).start())
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


@pytest.fixture
def grab():
    with grabbing() as start:
        yield start


def gets(grabber, numbers, seconds=40):
    """Whether the grabber delivers a shot of these numbers within a bounded time."""

    def look():
        frame = grabber.newest(0.05)
        return frame is not None and number_of(frame.pixels) in numbers

    return until(look, seconds)


def refusal(url, **options):
    camera = None
    try:
        with pytest.raises(CameraError) as refused:
            camera = open_camera(CameraConfig(source=url, **({"stall_s": 1} | options)))
    finally:
        if camera:
            camera.close()
    assert "\n" not in str(refused.value)
    assert "s3cret" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_frames_come_over_either_transport_upright_in_rgb_and_in_order(serve, transport):
    ahead = [float("-inf")]  # frames sent since the camera was open, less those read

    def behave(visitor, _):
        """At most five ahead of the reader, which shows the newest: what a slow one skips is known."""
        for unit in cycle(CLIP.units):
            while ahead[0] >= 5:
                visitor.pause(0.005)
            visitor.send(unit, CLIP.fps)
            ahead[0] += 1
            visitor.pause(1 / CLIP.fps)

    def read():
        ahead[0] -= 1
        return camera.read()

    server = serve(behave)
    camera = open_camera(CameraConfig(source=server.url, transport=transport))
    try:
        ahead[0] = 0
        frames = [read() for _ in range(12)]
    finally:
        camera.close()
    told = "RTP/AVP/TCP;unicast;interleaved" if transport == "tcp" else "RTP/AVP/UDP;unicast;client_port"
    assert any(told in request for request in server.requests)
    numbers = [number_of(frame.pixels) for frame in frames]
    assert all((after - before) % 10 in range(1, 7) for before, after in pairwise(numbers)), numbers
    assert frames[0].pixels.shape == (240, 320, 3)
    stamps = [frame.taken_at for frame in frames]
    assert stamps == sorted(stamps)


def test_the_first_frame_shown_is_no_older_than_the_newest_sent(serve):
    """The probe of the stream keeps what came meanwhile; the door must not look at it as if it were now."""
    sent = []

    def behave(visitor, _):
        for number in range(1, 400):
            sent.append(number % 10 + 1)
            visitor.send(CLIP.units[number % 10], CLIP.fps)
            visitor.pause(1 / CLIP.fps)

    camera = open_camera(CameraConfig(source=serve(behave).url))
    try:
        before = len(sent)
        first = number_of(camera.read().pixels)
    finally:
        camera.close()
    assert first in sent[before - 4 :]


def test_user_and_password_reach_the_camera_and_nothing_else(serve, grab, caplog):
    caplog.set_level(logging.DEBUG)
    server = serve(login=LOGIN)
    url = server.url.replace(LOGIN, ESCAPED)
    grabber = grab(url)
    assert gets(grabber, range(1, 11))
    child = next(p for p in Path("/proc").glob("[0-9]*") if _is_child_of_ours(p))
    told = (child / "cmdline").read_bytes() + (child / "environ").read_bytes()
    assert b"decoder.py" in told
    assert b"s3cret" not in told
    server.kill()
    wait_until(lambda: grabber.problem, "the grabber tells of it")
    said = grabber.problem + "".join(record.getMessage() for record in caplog.records)
    assert "rtsp://...@127.0.0.1" in said
    assert "s3cret" not in said
    assert "us@er" not in said


def _is_child_of_ours(process):
    try:
        ours = f"\nPPid:\t{os.getpid()}\n" in (process / "status").read_text()
        return ours and b"decoder.py" in (process / "cmdline").read_bytes()
    except OSError:
        return False


def test_the_child_finds_opencv_where_no_path_leads_to_it(serve, monkeypatch):
    """The package's interpreter is the system's, and its launcher alone knows where the libraries are."""
    bare = ("-ISB", str(PROGRAM))  # no site-packages
    monkeypatch.setattr(
        "edge.vision.decoded.Program",
        lambda command, request, where: Program((sys._base_executable, *bare), request, where),
    )
    camera = open_camera(CameraConfig(source=serve().url))
    try:
        assert camera.read().pixels.shape == (240, 320, 3)
    finally:
        camera.close()


def test_a_wrong_password_is_named_and_not_repeated(serve):
    server = serve(login=LOGIN)
    url = server.url.replace(LOGIN, "us%40er:s3cret")
    assert refusal(url).endswith("got none that can be decoded: wrong user or password (401)")


@pytest.mark.parametrize(
    ("status", "says"),
    [
        ("404 Not Found", "no such path on the camera (404)"),
        ("403 Forbidden", "access is forbidden (403)"),
        ("453 Not Enough Bandwidth s3cret", "the camera refuses the request"),
        ("500 Internal Server Error", "the camera reports an error of its own"),
    ],
)
def test_what_a_camera_refuses_is_told_in_our_words(serve, status, says):
    server = serve()
    server.answer = lambda method: status if method == "DESCRIBE" else None
    assert refusal(server.url).endswith(says)


def test_nobody_there_is_told(serve):
    server = serve()
    server.kill()
    assert refusal(server.url).endswith("connection refused")


def test_a_redirect_to_a_file_or_another_host_is_not_followed(serve):
    other = serve()
    server = serve()
    server.answer = lambda method: (
        f"302 Moved\r\nLocation: rtsp://127.0.0.1:{other.port}/live" if method == "DESCRIBE" else None
    )
    refusal(server.url)
    assert other.requests == []


@pytest.mark.parametrize(
    "describe",
    [
        lambda clip: "m=video 0 RTP/AVP 96\r\n" * 2000,
        lambda clip: noise(3000).decode("latin-1"),
        lambda clip: sdp(clip).replace("H264", "XYZ9"),
        lambda clip: re.sub("sets=[^\r]*", "sets=Z0IAKOkBQHtCAAAAAP////8=,aM4xUg==", sdp(clip)),
    ],
    ids=["thousands of tracks", "noise", "unknown codec", "broken sets"],
)
def test_a_description_that_makes_no_sense_is_a_camera_error_or_survived(serve, describe):
    server = serve(lambda visitor, _: visitor.pause(60))
    server.describe = describe
    refusal(server.url, stall_s=0.5)


def test_what_a_server_writes_into_its_description_is_no_line_of_ours(serve, caplog):
    """FFMPEG logs the description as it came: its lines may begin as the decoder's own do."""
    server = serve(login="user:s3cret")
    server.describe = lambda clip: f"note: unlocked, s3cret\r\nerror: s3cret\r\n{sdp(clip)}"
    camera = open_camera(CameraConfig(source=server.url, stall_s=2))
    wait_until(lambda: not camera.read().pixels.flags.writeable and camera._lines, "FFMPEG logs")
    camera.close()
    assert any("s3cret" in line for line in camera._lines), "the server's words came"
    assert "s3cret" not in caplog.text
    assert not camera._told or "s3cret" not in "".join(camera._told)


def test_noise_in_the_stream_is_survived(serve, grab):
    """Garbage between packets, torn fragments, then the picture again, all within one daemon's grabber."""

    def behave(visitor, visit):
        if visit == 0:
            visitor.play(times=2)
            for seed in range(50):
                visitor.rtp(noise(900, seed))
            for unit in CLIP.units:
                visitor.send([nal[: len(nal) // 2] for nal in unit], 25)
            visitor.raw(noise(5000))
        visitor.play(LARGER, times=500)

    grabber = grab(serve(behave).url)
    assert gets(grabber, range(1, 11))
    assert gets(grabber, range(12, 21))


def test_a_picture_larger_than_any_camera_is_refused_without_decoding(serve):
    """A sequence parameter set that claims 65,520 x 65,520 px (H.264 section 7.3.2.1.1)."""
    huge = _parameter_set(4095, 4095)

    def behave(visitor, _):
        for _ in range(200):
            visitor.send([huge, *[nal for nal in CLIP.units[0] if nal[0] & 0x1F != 7]], 25)
            visitor.pause(0.02)

    server = serve(behave)
    server.describe = lambda clip: re.sub(";sprop[^\r]*", "", sdp(clip))
    assert "expected" in refusal(server.url)


def _parameter_set(width_mbs, height_mbs):
    """A baseline SPS of so many macroblocks less one."""
    bits = "".join(_golomb(v) for v in (0, 0, 2, 1)) + "0" + _golomb(width_mbs) + _golomb(height_mbs)
    bits += "1" + "1" + "0" + "0" + "1"
    bits += "0" * (-len(bits) % 8)
    return bytes([0x67, 66, 0, 62]) + int(bits, 2).to_bytes(len(bits) // 8, "big")


def _golomb(value):
    code = bin(value + 1)[2:]
    return "0" * (len(code) - 1) + code


def test_another_resolution_in_the_middle_of_a_stream_is_the_new_picture(serve, grab):
    def behave(visitor, visit):
        if visit == 0:
            visitor.play(CLIP, times=5)
        visitor.play(LARGER, times=500)

    grabber = grab(serve(behave).url)
    assert gets(grabber, range(1, 11))

    def larger():
        frame = grabber.newest(0.05)
        return frame is not None and frame.pixels.shape == (480, 640, 3) and number_of(frame.pixels) > 10

    assert until(larger)


def test_a_camera_that_stalls_is_opened_again(serve, grab):
    def behave(visitor, visit):
        visitor.play(CLIP if visit == 0 else LARGER, times=3 if visit == 0 else 500)
        visitor.pause(60)

    grabber = grab(serve(behave).url)
    assert gets(grabber, range(1, 11))
    assert gets(grabber, range(11, 21))


def test_a_camera_that_dies_and_comes_back_works_without_a_restart(serve, grab):
    server = serve()
    grabber = grab(server.url)
    assert gets(grabber, range(1, 11))
    server.kill()
    wait_until(lambda: grabber.problem, "the grabber tells of it")
    server.clip = LARGER
    server.start()
    assert gets(grabber, range(11, 21))


def test_a_decoder_killed_is_replaced(serve, grab):
    grabber = grab(serve().url)
    assert gets(grabber, range(1, 11))
    child = next(p for p in Path("/proc").glob("[0-9]*") if _is_child_of_ours(p))
    os.kill(int(child.name), signal.SIGKILL)
    wait_until(lambda: grabber.problem, "the grabber tells of it")
    assert gets(grabber, range(1, 11))


@pytest.fixture
def trusted(tmp_path):
    """(context of a server for 127.0.0.1, its authority's file)."""
    authority = Authority(tmp_path / "pki")
    certificate, key = authority.issue("camera")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context, str(authority.path)


def test_rtsps_is_verified_and_shows_the_picture(serve, grab, trusted):
    context, ca_file = trusted
    server = serve(context=context, login=LOGIN)
    grabber = grab(server.url.replace(LOGIN, ESCAPED), ca_file=ca_file)
    assert gets(grabber, range(1, 11))


@pytest.mark.parametrize(
    ("host", "authority", "says"),
    [
        ("127.0.0.1", "another", "self-signed certificate in certificate chain|unable to get local issuer"),
        ("localhost", "its own", "ostname mismatch, certificate is not valid for 'localhost'"),
        ("127.0.0.1", "none", "expected certificates in camera.ca_file, got: No such file"),
    ],
)
def test_a_camera_that_cannot_prove_who_it_is_gets_no_password(
    serve, trusted, tmp_path, host, authority, says
):
    context, own = trusted
    files = {"another": Authority(tmp_path / "other").path, "its own": own, "none": tmp_path / "none.pem"}
    server = serve(context=context)
    url = server.url.replace("127.0.0.1", f"{ESCAPED}@{host}")
    assert re.search(says, refusal(url, ca_file=str(files[authority])))
    assert server.requests == []


def test_what_tls_says_for_itself_holds_nothing_up(trusted):
    """A session's ticket comes right after the handshake; who waits for data behind it waits for ever."""
    context, ca_file = trusted
    with socket.create_server(("127.0.0.1", 0)) as camera, relay.listen() as listener:

        def serve():
            connection = context.wrap_socket(camera.accept()[0], server_side=True)
            with connection:
                connection.sendall(b"pong" if connection.recv(4) == b"ping" else b"what?")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        address = camera.getsockname()[:2]
        own = listener.getsockname()
        relay.through(listener, relay.trusting(ca_file), address, "127.0.0.1", 0.3)
        with socket.create_connection(own, 5) as visitor:
            assert not select.select([visitor], [], [], 0.6)[0]  # neither data nor an end
            visitor.sendall(b"ping")
            assert visitor.recv(4) == b"pong"
        thread.join(5)


def test_a_plain_server_behind_rtsps_is_no_tls(serve):
    server = serve(lambda visitor, _: None)
    assert refusal(server.url.replace("rtsp:", "rtsps:")).endswith("expected a camera, got: nothing in time")


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_what_waits_in_either_kind_of_socket_is_seen_whole(kind):
    """Else a decoder that falls behind over UDP shows what lay in the kernel as if it were of now."""
    with socket.socket(socket.AF_INET, kind) as near, socket.socket(socket.AF_INET, kind) as far:
        near.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            near.listen()
        far.connect(near.getsockname())
        reader = near.accept()[0] if kind == socket.SOCK_STREAM else near
        assert decoder._queued(reader) == 0
        for _ in range(80):
            far.send(bytes(1400))
        wait_until(lambda: decoder._queued(reader) > decoder._QUEUE_BYTES, "what was sent waits")
        wanted = {held.getsockname() for held in (reader, far)}
        found = decoder._streams()
        assert wanted <= {copy.getsockname() for copy in found if copy.type == kind}
        for copy in (*found, reader):
            copy.close()


def test_a_decoder_that_falls_behind_delivers_frames_as_old_as_they_are():
    from edge.vision.decoder import Arrivals

    ms = 10**6
    arrivals = Arrivals()
    told = [arrivals.taken_at(40.0 * n, (1000 + 40 * n) * ms, 0) for n in range(10)]
    assert told[2:] == [(1000 + 40 * n) * ms for n in range(2, 10)]
    late = [arrivals.taken_at(400 + 40.0 * n, (1400 + 80 * n) * ms, 10**6) for n in range(10)]
    assert late == [(1400 + 40 * n) * ms for n in range(10)]
    assert arrivals.taken_at(800, 2300 * ms, 0) == 2300 * ms  # nothing waits: however uneven its stamps


def test_the_backlog_of_the_opening_is_not_shown():
    from edge.vision.decoder import Arrivals

    ms = 10**6
    arrivals = Arrivals()
    burst = [arrivals.taken_at(40.0 * n, (1000 + 2 * n) * ms, 10**6) for n in range(20)]
    assert burst == [None] * 20
    assert arrivals.taken_at(800, 1080 * ms, 0) == 1080 * ms


def test_a_stream_without_stamps_is_shown_after_a_while():
    from edge.vision.decoder import Arrivals

    arrivals = Arrivals()
    assert arrivals.taken_at(0, 10**9, 0) is None
    assert arrivals.taken_at(0, 4 * 10**9, 0) == 4 * 10**9


def test_reading_ends_at_the_stall_time(serve):
    camera = open_camera(
        CameraConfig(source=serve(lambda v, _: (v.play(times=3), v.pause(60))).url, stall_s=0.5)
    )

    def read_on():
        for _ in range(1000):
            camera.read()

    with pytest.raises(CameraError, match=r"expected (a frame in 0.5 s|more frames), got none"):
        read_on()
    camera.close()
