import contextlib
import os
import struct
import zlib

import cv2
import numpy as np
import pytest

from edge.errors import ImageError
from edge.values import Face
from edge.vision import pictures
from edge.vision.headers import read_header
from edge.vision.pictures import decode_picture, draw_face, load_picture, save_picture

FORMATS = [".jpg", ".png", ".webp", ".bmp"]


def colourful(width=40, height=30):
    """Left red, right blue, with a green top."""
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[:, : width // 2, 0] = 200
    rgb[:, width // 2 :, 2] = 200
    rgb[: height // 3] = (0, 200, 0)
    return rgb


def encoded(pixels, suffix):
    """OpenCV's own file of an array in OpenCV's order (BGR)."""
    return cv2.imencode(suffix, pixels)[1].tobytes()


def with_exif_orientation(jpeg, orientation):
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    exif = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


def jpeg_header_only(width, height):
    sof = struct.pack(">HBHHB", 17, 8, height, width, 3) + b"\1\x22\0\2\x11\1\3\x11\1"
    return b"\xff\xd8\xff\xc0" + sof + b"\xff\xda" + struct.pack(">H", 2) + b"\0" * 100 + b"\xff\xd9"


def png_header_only(width, height):
    ihdr = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + ihdr + struct.pack(">I", zlib.crc32(ihdr))
    return b"\x89PNG\r\n\x1a\n" + chunk + b"\0\0\0\0IEND\xae\x42\x60\x82"


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_comes_back_as_red_green_blue_and_read_only(tmp_path, suffix):
    save_picture(tmp_path / f"a{suffix}", colourful())
    pixels = load_picture(tmp_path / f"a{suffix}")
    assert pixels.shape == (30, 40, 3)
    assert pixels.dtype == np.uint8
    assert not pixels.flags.writeable
    assert np.allclose(pixels[20, 5], (200, 0, 0), atol=12)
    assert np.allclose(pixels[20, 35], (0, 0, 200), atol=12)
    assert np.allclose(pixels[4, 20], (0, 200, 0), atol=12)


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_header_tells_the_size_that_decoding_gives(suffix):
    header = read_header(encoded(np.zeros((33, 57, 3), np.uint8), suffix), "a")
    assert (header.width, header.height, header.complete) == (57, 33, True)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp"])
def test_a_greyscale_picture_has_three_equal_channels(suffix):
    grey = np.tile(np.arange(0, 240, 6, dtype=np.uint8), (30, 1))
    pixels = decode_picture(encoded(grey, suffix), "a")
    assert pixels.shape == (30, 40, 3)
    assert np.array_equal(pixels[..., 0], pixels[..., 2])
    assert np.allclose(pixels[..., 0], grey, atol=6)


def test_sixteen_bits_become_the_high_eight():
    deep = np.full((8, 8, 3), 0x80FF, np.uint16)
    assert np.all(decode_picture(encoded(deep, ".png"), "a") == 0x80)


def test_sixteen_bits_with_transparency_become_the_high_eight_too():
    deep = np.full((8, 8, 4), 0xFFFF, np.uint16)
    deep[..., 0] = 0x40FF
    assert decode_picture(encoded(deep, ".png"), "a")[3, 3].tolist() == [0xFF, 0xFF, 0x40]


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_what_a_viewer_hides_is_not_seen(suffix):
    bgra = np.full((16, 16, 4), 255, np.uint8)
    bgra[:, :8] = (10, 20, 250, 0)  # a hidden red
    options = [cv2.IMWRITE_WEBP_QUALITY, 101] if suffix == ".webp" else []  # 101: lossless
    pixels = decode_picture(cv2.imencode(suffix, bgra, options)[1].tobytes(), "a")
    assert pixels[8, 2].tolist() == [128, 128, 128]
    assert pixels[8, 12].tolist() == [255, 255, 255]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_exif_rotated_photograph_is_turned_upright(orientation):
    upright = colourful()
    undo = {  # how a camera held so stores the upright scene
        1: lambda p: p,
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.transpose(1, 0, 2),
        6: lambda p: np.rot90(p, 1),
        7: lambda p: np.rot90(p, 2).transpose(1, 0, 2),
        8: lambda p: np.rot90(p, -1),
    }[orientation]
    stored = np.ascontiguousarray(undo(upright)[..., ::-1])
    pixels = decode_picture(with_exif_orientation(encoded(stored, ".jpg"), orientation), "a")
    assert pixels.shape == upright.shape
    assert np.abs(pixels.astype(int) - upright).mean() < 12


@pytest.mark.parametrize(
    "data",
    [
        jpeg_header_only(10_000, 10_000),
        png_header_only(10_000, 10_000),
        encoded(np.zeros((1, 1, 3), np.uint8), ".bmp"),
    ],
    ids=["jpeg", "png", "bmp"],
)
def test_a_hundred_megapixels_are_refused_without_decoding(monkeypatch, data):
    if data[:2] == b"BM":
        data = data[:18] + struct.pack("<ii", 10_000, -10_000) + data[26:]
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("was decoded"))
    with pytest.raises(ImageError, match=r"^a\.jpg: expected at most 40 megapixels, got 10000 x 10000$"):
        decode_picture(data, "a.jpg")


def many_scans(count, side=64):
    """A grey progressive JPEG whose scans but the first say: nothing more. 34 bytes cost a whole pass."""

    def segment(marker, body):
        return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body

    blocks = (side // 8) ** 2
    tables = segment(0xDB, b"\0" + b"\1" * 64) + segment(
        0xC2, struct.pack(">BHHB", 8, side, side, 1) + b"\1\x11\0"
    )
    tables += segment(0xC4, b"\0\1" + bytes(15) + b"\0") + segment(0xC4, b"\x10\1" + bytes(15) + b"\x60")
    first = segment(0xDA, b"\1\1\0\0\0\0") + bytes(blocks // 8)
    return b"\xff\xd8" + tables + first + segment(0xDA, b"\1\1\0\1\x3f\0") * (count - 1) + b"\xff\xd9"


def test_a_picture_of_a_hundred_thousand_scans_is_refused_without_decoding(monkeypatch):
    """Of 4096 x 4096 px, libjpeg would pass over it for minutes, and the thread could not be ended."""
    assert decode_picture(many_scans(100), "x").shape == (64, 64, 3)
    monkeypatch.setattr(cv2, "imdecode", None)
    with pytest.raises(ImageError, match=r"^x: expected at most 100 scans, got 100000$"):
        decode_picture(many_scans(100_000), "x")


def test_forty_megapixels_are_not_too_many():
    assert decode_picture(encoded(np.zeros((1, 40_000, 3), np.uint8), ".png"), "a").shape == (1, 40_000, 3)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("part", [0.02, 0.2, 0.5, 0.97])
def test_a_truncated_picture_is_refused(suffix, part):
    rng = np.random.default_rng(1)
    data = encoded(rng.integers(0, 255, (60, 80, 3), np.uint8), suffix)
    with pytest.raises(ImageError, match=r"^half: expected a whole .*, got .*(truncated|cut off)"):
        decode_picture(data[: max(13, int(len(data) * part))], "half")


def test_a_jpeg_with_a_thumbnail_is_not_whole_because_its_thumbnail_is():
    thumbnail = encoded(np.zeros((8, 8, 3), np.uint8), ".jpg")
    data = encoded(np.random.default_rng(1).integers(0, 255, (60, 80, 3), np.uint8), ".jpg")
    data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail + data[2:]
    assert decode_picture(data, "a").shape == (60, 80, 3)
    with pytest.raises(ImageError, match="got a truncated one"):
        decode_picture(data[: len(data) // 2], "a")


def test_what_a_phone_writes_behind_the_picture_does_no_harm():
    assert decode_picture(encoded(colourful(), ".jpg") + b"trailer" * 100, "a").shape == (30, 40, 3)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "expected a picture, got an empty file"),
        (b"hello, I am a text", "expected a JPEG, PNG, WebP or BMP picture, got b'hello, I'"),
        (b"GIF89a" + b"\0" * 50, "expected a JPEG, PNG, WebP or BMP picture, got b'GIF89a"),
        (b"\xff\xd8\xff\xe0", "expected a whole picture, got one cut off in its header"),
        (b"\xff\xd8\xff" + b"\xe0\x00\x02\xff" * 10_000, "got one cut off in its header"),
        (png_header_only(0, 10), "expected a picture with pixels, got 0 x 10"),
        (png_header_only(10, 10), "expected a PNG picture, got one that can't be decoded"),
    ],
)
def test_what_is_no_picture_is_refused_in_one_line(data, words):
    with pytest.raises(ImageError) as refused:
        decode_picture(data, "a.jpg")
    assert str(refused.value).startswith("a.jpg: expected")
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_random_damage_gives_a_picture_or_an_image_error():
    rng = np.random.default_rng(5)
    for suffix in FORMATS:
        whole = encoded(colourful()[..., ::-1], suffix)
        for _ in range(150):
            data = bytearray(whole)
            for at in rng.integers(0, min(len(data), 400), 3):
                data[at] = rng.integers(0, 256)
            with contextlib.suppress(ImageError):
                assert decode_picture(bytes(data), "a", max_pixels=10**6).dtype == np.uint8


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ImageError, match=r"gone\.jpg: expected a readable picture, got: No such file"):
        load_picture(tmp_path / "gone.jpg")


def test_a_folder_and_a_pipe_are_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    for path in (tmp_path, tmp_path / "pipe.jpg"):
        with pytest.raises(ImageError, match="expected a picture file, got something else"):
            load_picture(path)


def test_a_file_too_large_is_refused_without_reading_it_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "MAX_FILE_BYTES", 1000)
    with (tmp_path / "big.jpg").open("wb") as file:
        file.truncate(1001)
    with pytest.raises(ImageError, match="expected at most 0 MiB, got a larger file"):
        load_picture(tmp_path / "big.jpg")


def test_saving_to_an_unknown_suffix_or_a_missing_folder_is_an_image_error(tmp_path):
    with pytest.raises(ImageError, match=r"expected a suffix of \.bmp .*, got '\.gif'"):
        save_picture(tmp_path / "a.gif", colourful())
    with pytest.raises(ImageError, match="expected to write it, got: No such file"):
        save_picture(tmp_path / "none" / "a.png", colourful())


def face_at(x, y, side):
    points = [(0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.5, 0.8), (0.05, 0.5), (0.95, 0.5)]
    landmarks = np.array([(x + a * side, y + b * side) for a, b in points], np.float32)
    return Face((x, y, side, side), landmarks, 0.9)


def test_drawing_leaves_the_picture_itself_alone():
    blank = np.zeros((480, 640, 3), np.uint8)
    blank.setflags(write=False)
    drawn = draw_face(blank, face_at(200, 150, 200), "obama 0.42\ngranted", (0, 200, 0))
    assert drawn.shape == blank.shape
    assert drawn.flags.writeable
    assert drawn[250, 200].tolist() == [0, 200, 0]  # the box
    assert drawn[230, 260].tolist() == [0, 200, 0]  # an eye
    assert (drawn[:150] > 150).all(axis=2).any()  # the caption's ink, above the box
    assert not blank.any()


@pytest.mark.parametrize("size", [(160, 120), (640, 480), (4000, 3000)])
def test_the_caption_grows_with_the_picture_and_stays_inside(size):
    width, height = size
    blank = np.zeros((height, width, 3), np.uint8)
    drawn = draw_face(
        blank, face_at(width * 0.8, -5, width * 0.3), "subject-with-a-long-name 0.65", (250, 250, 0)
    )
    bar = np.flatnonzero((drawn == (250, 250, 0)).all(axis=2).sum(axis=1) > width * 0.02)
    assert len(bar) >= max(8, height / 40)
    assert (drawn == 0).all(axis=2).sum() > width * height * 0.5
