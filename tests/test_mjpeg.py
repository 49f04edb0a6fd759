"""MJPEG over HTTP, from a camera that misbehaves."""

import base64
import ssl
import threading
import time

import pytest
from broker import Authority
from fakes import number_of, shot, until
from grabbing import grabbing
from mjpeg import MjpegServer, jpeg, part, steady

from edge.config import CameraConfig
from edge.errors import CameraError
from edge.vision.camera import open_camera
from edge.vision.health import CameraHealth
from edge.vision.mjpeg import MjpegCamera
from edge.vision.multipart import MAX_HEADER_BYTES, MAX_PART_BYTES, PartParser, boundary_of

SHOTS = [shot(i, (128, 96)) for i in range(1, 6)]


def config(source, **options):
    return CameraConfig(source=str(source), **({"stall_s": 1} | options))


@pytest.fixture
def serve():
    """serve(behave): a running MjpegServer, stopped at the end."""
    servers = []

    def start(behave, **options):
        servers.append(MjpegServer(behave, **options).__enter__())
        return servers[-1]

    yield start
    for server in servers:
        server.__exit__()


@pytest.fixture
def grab():
    """grab(server): a started grabber on it, stopped at the end."""
    with grabbing() as start:
        yield lambda server, **options: start(server.url, **options)


def gets(grabber, number):
    """Whether the grabber delivers shot `number` within a bounded time."""

    def look():
        frame = grabber.newest(0.05)
        return frame is not None and number_of(frame.pixels) == number

    return until(look)


def read_once(kind, settings):
    camera = kind(settings)
    try:
        camera.read()
    finally:
        camera.close()


def read_on(camera, seen=None, most=100):
    for _ in range(most):
        number = number_of(camera.read().pixels)
        if seen is not None:
            seen.append(number)


def refusal(server, **options):
    with pytest.raises(CameraError) as refused:
        read_once(MjpegCamera, config(server.url, **({"stall_s": 0.3} | options)))
    assert "\n" not in str(refused.value)
    return str(refused.value).removeprefix(f"{server.url}: ")


def test_a_camera_unplugged_and_back_works_without_a_restart(serve, grab):
    def behave(wire, visit):
        steady(wire, [SHOTS[visit]] * 3)
        if visit == 1:
            wire.pause(60)

    grabber = grab(serve(behave))
    assert gets(grabber, 1)
    assert gets(grabber, 2)


@pytest.fixture
def trusted(tmp_path):
    """(context of a server for 127.0.0.1, its authority's file)."""
    authority = Authority(tmp_path / "pki")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("camera"))
    return context, str(authority.path)


def test_https_is_verified_and_each_frame_comes_at_once(serve, trusted):
    """Two frames in one TLS record: the second lies decrypted while the wire itself is quiet."""

    def behave(wire, _):
        wire.head()
        wire.send(part(jpeg(SHOTS[0])) + part(jpeg(SHOTS[1])))
        wire.pause(0.5)
        wire.frame(SHOTS[2])
        wire.pause(60)

    context, ca_file = trusted
    camera = MjpegCamera(config(serve(behave, context=context).url, ca_file=ca_file, stall_s=5))
    seen = []
    try:
        while 3 not in seen:
            seen.append(number_of(camera.read().pixels))
    finally:
        camera.close()
    assert seen in ([1, 2, 3], [2, 3])


@pytest.mark.parametrize(
    ("host", "authority", "says"),
    [
        ("127.0.0.1", "another", "got: a certificate that can't be verified (camera.ca_file): "),
        ("localhost", "its own", "certificate is not valid for 'localhost'"),
        ("127.0.0.1", "missing", "expected a camera, got: No such file or directory"),
    ],
)
def test_a_camera_that_cannot_prove_who_it_is_gets_no_request(
    serve, trusted, tmp_path, host, authority, says
):
    context, own = trusted
    files = {"another": Authority(tmp_path / "b").path, "its own": own, "missing": tmp_path / "none.pem"}
    server = serve(lambda wire, _: wire.pause(60), context=context)
    with pytest.raises(CameraError) as refused:
        MjpegCamera(config(server.url.replace("127.0.0.1", host), ca_file=str(files[authority])))
    assert says in str(refused.value)
    assert server.requests == []


def test_a_camera_that_stalls_in_the_middle_of_a_frame_is_opened_again(serve, grab):
    def behave(wire, visit):
        wire.head()
        if visit == 0:
            wire.send(part(jpeg(SHOTS[0]))[:500])
        else:
            wire.frame(SHOTS[1])
        wire.pause(60)

    grabber = grab(serve(behave), stall_s=0.3)
    assert gets(grabber, 2)


def test_a_read_ends_at_the_stall_time_however_slowly_bytes_drip(serve):
    def behave(wire, _):
        wire.head()
        for byte in part(jpeg(SHOTS[0])):
            wire.send(bytes([byte]))
            wire.pause(0.05)

    began = time.monotonic()
    assert refusal(serve(behave)) == "expected a frame in 0.3 s, got none"
    assert time.monotonic() - began < 5  # at this pace the frame would take minutes


def test_opening_ends_at_the_stall_time_however_slowly_the_header_drips(serve):
    def behave(wire, _):
        wire.send(b"HTTP/1.1 200 OK\r\n")
        for _ in range(1000):
            wire.send(b"X-Y: z\r\n"[:1])
            wire.pause(0.05)

    assert refusal(serve(behave)) == "expected an HTTP response, got: nothing in time"


def test_a_delayed_camera_gives_no_frame_meanwhile_and_an_old_stamp_never(serve, grab):
    go_on = threading.Event()

    def behave(wire, _):
        wire.head()
        wire.frame(SHOTS[0])
        while not go_on.is_set():
            wire.pause(0.01)
        wire.frame(SHOTS[1])
        wire.pause(60)

    grabber = grab(serve(behave), stall_s=2)
    assert gets(grabber, 1)
    assert grabber.newest(0.3) is None
    sent_at = time.monotonic()
    go_on.set()
    frame = grabber.newest(5)
    assert number_of(frame.pixels) == 2
    assert frame.taken_at >= sent_at


def test_of_a_hundred_frames_at_once_the_newest_is_looked_at(serve):
    def behave(wire, _):
        wire.head()
        wire.send(b"".join(part(jpeg(SHOTS[i % 4])) for i in range(99)) + part(jpeg(SHOTS[4])))
        wire.pause(60)

    camera = MjpegCamera(config(serve(behave).url))
    looked_at = [number_of(camera.read().pixels)]
    while looked_at[-1] != 5:
        looked_at.append(number_of(camera.read().pixels))
    assert len(looked_at) < 20  # the rest was skipped undecoded
    camera.close()


def test_a_burst_and_a_hang_up_still_give_the_last_frame(serve):
    def behave(wire, _):
        wire.head()
        wire.send(b"".join(part(jpeg(s)) for s in SHOTS))

    camera = MjpegCamera(config(serve(behave).url))
    time.sleep(0.1)  # all of it has come, and the end too; were it not, the next lines hold as well
    seen = []
    with pytest.raises(CameraError, match="got the end of the stream"):
        read_on(camera, seen)
    assert seen[-1] == 5
    camera.close()


def test_the_resolution_may_change_in_the_stream(serve):
    sizes = [(128, 96), (320, 240), (64, 48)]
    server = serve(lambda wire, _: steady(wire, [shot(3, size) for size in sizes]))
    camera = MjpegCamera(config(server.url))
    assert [camera.read().pixels.shape[1::-1] for _ in sizes] == sizes
    camera.close()


def test_parts_that_are_no_picture_are_skipped(serve):
    def behave(wire, _):
        wire.head()
        whole = jpeg(SHOTS[0])
        for bad in (b"", b"garbage", whole[: len(whole) // 2], b"<html>busy</html>", b"\xff\xd8\xff"):
            wire.send(part(bad))
        wire.frame(SHOTS[1])
        wire.pause(60)

    camera = MjpegCamera(config(serve(behave).url))
    assert number_of(camera.read().pixels) == 2
    camera.close()


def test_a_stream_of_nothing_but_garbage_is_a_fault(serve):
    def behave(wire, _):
        wire.head()
        while True:
            wire.send(part(b"garbage"))
            wire.pause(0.01)

    assert refusal(serve(behave)).startswith("expected a frame in 0.3 s, got a part: expected a JPEG")


def test_a_picture_too_large_to_decode_is_skipped_undecoded(serve):
    huge = bytearray(jpeg(SHOTS[0]))
    at = huge.find(b"\xff\xc0") + 5
    huge[at : at + 4] = b"\xff\xff\xff\xff"

    def behave(wire, _):
        wire.head()
        wire.send(part(bytes(huge)))
        wire.pause(60)

    expected = "expected a frame in 0.3 s, got a part: expected at most 16.7772 megapixels, got 65535 x 65535"
    assert refusal(serve(behave)) == expected


def endless(start):
    def behave(wire, _):
        wire.head()
        wire.send(start)
        while True:
            wire.send(b"x" * 65536)

    return behave


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"--frame\r\nX-Header: ", f"expected the end of a part's header within {MAX_HEADER_BYTES} bytes"),
        (b"--frame\r\n\r\n", f"expected the end of a part within {MAX_PART_BYTES} bytes"),
        (b"no boundary at all", f"expected a part boundary within {MAX_PART_BYTES} bytes"),
        (
            b"--frame\r\nContent-Length: 99999999999\r\n\r\n",
            f"expected the end of a part within {MAX_PART_BYTES} bytes",
        ),
    ],
    ids=["header", "part", "preamble", "length"],
)
def test_memory_is_bounded_whatever_comes(serve, start, words):
    assert refusal(serve(endless(start)), stall_s=20).startswith(words)


def test_an_endless_http_header_is_refused(serve):
    def behave(wire, _):
        wire.send(b"HTTP/1.1 200 OK\r\nX: ")
        while True:
            wire.send(b"x" * 65536)

    assert refusal(serve(behave), stall_s=20).startswith("expected an HTTP response, got: got more than")


@pytest.mark.parametrize("status", ["404 Not Found", "401 Unauthorized", "302 Found", "503 Busy", "206 Part"])
def test_any_status_but_200_is_refused_and_no_redirect_followed(serve, status):
    server = serve(lambda wire, _: wire.head(status, extra="Location: http://127.0.0.1:1/\r\n"))
    assert refusal(server) == f"expected status 200, got {status[:3]}"
    assert len(server.requests) == 1


@pytest.mark.parametrize("kind", ["text/html", "image/jpeg", "multipart/x-mixed-replace", "x; boundary=y"])
def test_what_is_no_mjpeg_stream_is_refused(serve, kind):
    words = refusal(serve(lambda wire, _: wire.head(kind=kind)))
    assert words == f"expected multipart/x-mixed-replace with a boundary, got {kind!r}"


@pytest.mark.parametrize("data", [b"", b"SSH-2.0-OpenSSH\r\n", b"\0" * 100, b"HTTP/1.1 abc\r\n\r\n"])
def test_what_is_no_http_server_is_refused(serve, data):
    assert refusal(serve(lambda wire, _: wire.send(data))).startswith("expected an HTTP response, got: ")


def test_a_camera_that_is_not_there_is_refused(serve):
    with MjpegServer(lambda wire, _: None) as gone:
        pass
    assert refusal(gone) == "expected a camera, got: Connection refused"


def test_a_stream_that_says_it_ends_is_believed(serve):
    def behave(wire, _):
        wire.head()
        wire.send(b"--frame--\r\n")
        wire.pause(60)

    assert refusal(serve(behave)) == "expected more frames, got the end of the stream"


def test_the_password_of_the_url_is_sent_and_never_said(serve):
    server = serve(lambda wire, _: wire.head("401 Unauthorized"))
    url = server.url.replace("//", "//door:s%40cret@") + "?token=hidden"
    with pytest.raises(CameraError) as refused:
        open_camera(config(url))
    assert str(refused.value) == f"{server.url}: expected status 200, got 401"
    expected = base64.b64encode(b"door:s@cret")
    assert b"Authorization: Basic " + expected + b"\r\n" in server.requests[0]
    assert server.requests[0].startswith(b"GET /video?token=hidden HTTP/1.1\r\n")


def test_a_password_in_the_path_and_what_a_server_says_are_never_repeated(serve):
    server = serve(lambda wire, _: wire.head("404 Not Found"))
    with pytest.raises(CameraError) as refused:
        open_camera(config(server.url.replace("/video", "/user=door_password=s3cret_channel=1")))
    assert str(refused.value) == f"{server.url.replace('video', '')}...: expected status 200, got 404"
    assert b"GET /user=door_password=s3cret_channel=1 HTTP/1.1" in server.requests[0]
    for line in (b"\x1b[2Js3cret\r\n\r\n", b"HTTP/9.9 s3cret\r\n\r\n", b"HTTP/1.1 s3cret\r\n\r\n"):
        said = refusal(serve(lambda wire, _, line=line: wire.send(line)))
        assert said == "expected an HTTP response, got: another protocol"


def test_a_stream_in_chunks_is_understood(serve):
    def behave(wire, _):
        wire.head(extra="Transfer-Encoding: chunked\r\n")
        data = b"".join(part(jpeg(s)) for s in SHOTS[:1])
        for at in range(0, len(data), 700):
            piece = data[at : at + 700]
            wire.send(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        wire.pause(60)

    camera = MjpegCamera(config(serve(behave).url))
    assert number_of(camera.read().pixels) == 1
    camera.close()


def test_a_frozen_and_a_looping_camera_become_faults(serve, grab):
    def frozen(wire, _):
        wire.head()
        while True:
            wire.frame(SHOTS[0])
            wire.pause(0.02)

    def looping(wire, _):
        wire.head()
        while True:
            for pixels in SHOTS:
                wire.frame(pixels)
                wire.pause(0.02)

    for behave, words in ((frozen, "frozen: "), (looping, "looping: ")):
        server = serve(behave)
        grabber, health = grab(server), CameraHealth(config(server.url, frozen_s=0.2))

        def judged(grabber=grabber, health=health, words=words):
            frame = grabber.newest(0.05)
            if frame is not None:
                health.saw(frame, time.monotonic())
            return (health.fault(time.monotonic()) or "").startswith(words)

        assert until(judged)


# the framing by itself


@pytest.mark.parametrize(
    ("kind", "boundary"),
    [
        ("multipart/x-mixed-replace; boundary=frame", b"frame"),
        ('multipart/x-mixed-replace;boundary="a b"', b"a"),
        ('Multipart/X-Mixed-Replace; charset=x; Boundary = "--myboundary"', b"myboundary"),
        ("multipart/x-mixed-replace;boundary=--", None),
        ("multipart/x-mixed-replace", None),
        ("image/jpeg; boundary=x", None),
    ],
)
def test_the_boundary_is_found_as_cameras_write_it(kind, boundary):
    kind = kind.replace("Boundary = ", "Boundary=")
    assert boundary_of(kind) == boundary


@pytest.mark.parametrize("dashes", [b"--", b"----"])
@pytest.mark.parametrize("newline", [b"\r\n", b"\n"])
@pytest.mark.parametrize("length", [True, False])
@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_parts_come_whole_however_they_are_framed_and_cut(dashes, newline, length, piece):
    bodies = [b"one", b"two\r\n\r\nwith a blank line", b"", b"4" * 300]
    stream = b"junk before"
    for body in bodies:
        stream += newline + dashes + b"edge" + newline + b"Content-Type: image/jpeg" + newline
        stream += (b"content-length: %d" % len(body) + newline if length else b"") + newline + body
    stream += newline + dashes + b"edge"
    parser, found = PartParser(b"edge", "a"), []
    for at in range(0, len(stream), piece):
        parser.feed(stream[at : at + piece], float(at))
        while (taken := parser.take()) is not None:
            found.append(taken.body)
    assert found == bodies


def test_a_part_is_stamped_when_its_first_byte_came():
    parser = PartParser(b"frame", "a")
    one, two = part(b"1" * 100), part(b"2" * 100)
    parser.feed(one + two[:10], 1.0)
    parser.feed(two[10:50], 2.0)
    parser.feed(two[50:] + part(b"3"), 3.0)
    stamps = []
    while (taken := parser.take()) is not None:
        stamps.append((taken.body[:1], taken.arrived_at))
    assert stamps == [(b"1", 1.0), (b"2", 1.0), (b"3", 3.0)]


def test_bytes_that_come_one_by_one_cost_little_memory_and_are_looked_at_once():
    parser = PartParser(b"frame", "a")
    for at in range(20_000):
        parser.feed(b"-", at / 1e6)  # 20 ms of them
        assert parser.take() is None
    assert len(parser._arrivals) <= 21
    assert parser._started >= 20_000 - len("--frame")
    parser.feed(b"\r\n--frame\r\nContent-Length: 1\r\n\r\nx", 0.5)
    part = parser.take()
    assert (part.body, part.arrived_at) == (b"x", 0.5)
