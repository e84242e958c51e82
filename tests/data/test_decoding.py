from __future__ import annotations

import io
import struct
import sys
import types
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin, features

from pamela_rl.data import decoding, images
from pamela_rl.data.decoding import decode
from pamela_rl.data.images import FolderImages, ZipImages
from pamela_rl.errors import DataError

RAMP = np.linspace(0, 1, 64, dtype=np.float64).reshape(8, 8)  # black to white
COLOUR = (200, 30, 40)


def encoded(image: Image.Image, format: str, **options: object) -> io.BytesIO:
    stream = io.BytesIO()
    image.save(stream, format=format, **options)
    stream.seek(0)
    return stream


def grey(values: NDArray[np.generic], format: str = "TIFF", **options: object) -> NDArray[np.uint8]:
    """The one channel that all three have after a round trip through a file."""
    decoded = decode(encoded(Image.fromarray(values), format, **options))
    assert decoded.mode == "RGB"
    channels = np.asarray(decoded)
    assert (channels == channels[..., :1]).all()
    return channels[..., 0]


@pytest.mark.parametrize("format", ["PNG", "TIFF", "JPEG2000"])
def test_a_grey_image_of_16_bits_keeps_its_brightness(format: str) -> None:
    if format == "JPEG2000" and not features.check("jpg_2000"):
        pytest.skip("this build of Pillow reads no JPEG 2000")
    dim = (RAMP * 0.4 * 65535).astype(np.uint16)
    np.testing.assert_array_equal(grey(dim, format), np.rint(dim / 257))


def test_samples_of_12_bits_are_white_at_4095() -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    stored = encoded(Image.fromarray((RAMP * 4095).astype(np.uint16)), "TIFF", tiffinfo=tags)
    opened = Image.open(stored)
    assert opened.mode == "I;16"
    assert decoding._range(np.zeros(1, np.float32), "I;16", {258: (12,)}) == (0, 4095)


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (RAMP * 0.5, RAMP * 127.5),
        (np.round(RAMP * 200), np.round(RAMP * 200)),  # 8-bit values that were stored as floats
        (np.round(RAMP * 40000), RAMP * 40000 / 257),  # 16-bit values
        (RAMP * 1.1, RAMP * 255),  # a little over, as resampling leaves it
        (RAMP * 3e5, RAMP * 255),
        (RAMP * 4 - 1, RAMP * 255),
        (np.where(RAMP == 1, np.nan, RAMP * 0.5), np.where(RAMP == 1, 0, RAMP * 127.5)),
        (np.zeros((8, 8)), np.zeros((8, 8))),
        (np.full((8, 8), 7.5), np.full((8, 8), 255)),
        (np.full((8, 8), np.nan), np.zeros((8, 8))),
    ],
    ids=["unit", "bytes", "words", "overshoot", "large", "negative", "not finite", "black", "constant", "nothing"],
)
def test_floats_are_shown_by_the_range_that_holds_them(values: NDArray[np.float64], shown: NDArray[np.float64]) -> None:
    np.testing.assert_allclose(grey(values.astype(np.float32)), shown, atol=0.51)


@pytest.mark.parametrize(
    ("white", "brightest"),
    [(1, 255), (200, 200), (40000, 40000 / 257), (2**31 - 1, 255)],
    ids=["mask", "bytes", "words", "full range"],
)
def test_integers_of_32_bits_are_shown_by_the_smallest_range_that_holds_them(white: int, brightest: float) -> None:
    shown = grey(np.floor(RAMP * white).astype(np.int32))
    assert shown.max() == pytest.approx(brightest, abs=0.51)
    assert shown.min() == 0
    assert (np.diff(shown.ravel().astype(int)) >= 0).all()


def test_integers_without_sign_are_not_read_as_negative() -> None:
    values = np.floor(RAMP * (2**32 - 1)).astype(np.uint32)
    stored = encoded(Image.fromarray(values.view(np.int32)), "TIFF").getvalue()
    signed = struct.pack("<HHIHH", 339, 3, 1, 2, 0)
    assert signed in stored
    unsigned = stored.replace(signed, struct.pack("<HHIHH", 339, 3, 1, 1, 0))
    np.testing.assert_allclose(np.asarray(decode(io.BytesIO(unsigned)))[..., 0], RAMP * 255, atol=0.51)


@pytest.mark.parametrize("mode", ["1", "L", "P", "PA", "LA", "RGBA", "CMYK", "LAB"])
def test_every_kind_of_pixel_becomes_rgb_with_its_colour(mode: str) -> None:
    image = Image.new("RGB", (8, 8), (255, 255, 255) if mode == "1" else COLOUR)
    if mode == "LAB":
        from PIL import ImageCms

        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.profileToProfile(image, *profiles, outputMode="LAB") or image
    elif mode == "P":
        image = image.quantize(4)
    else:
        image = image.convert(mode)
    decoded = np.asarray(decode(encoded(image, "TIFF"))).mean(axis=(0, 1))
    expected = {"1": (255,) * 3, "L": (82,) * 3, "LA": (82,) * 3, "PA": None}.get(mode, COLOUR)
    if expected:
        np.testing.assert_allclose(decoded, expected, atol=3)


@pytest.mark.parametrize(
    ("format", "feature"), [("WEBP", "webp"), ("AVIF", "avif"), ("JPEG2000", "jpg_2000"), ("PPM", None), ("BMP", None)]
)
def test_newer_and_older_formats_are_read(format: str, feature: str | None) -> None:
    if feature and not features.check(feature):
        pytest.skip(f"this build of Pillow reads no {format}")
    decoded = np.asarray(decode(encoded(Image.new("RGB", (16, 16), COLOUR), format)))
    np.testing.assert_allclose(decoded.mean(axis=(0, 1)), COLOUR, atol=4)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_is_taken(format: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in (COLOUR, "blue", "white")]
    decoded = decode(encoded(frames[0], format, save_all=True, append_images=frames[1:]))
    np.testing.assert_allclose(np.asarray(decoded).mean(axis=(0, 1)), COLOUR, atol=4)


def test_a_rotated_grey_image_of_16_bits_is_turned_upright() -> None:
    values = np.zeros((4, 6), np.uint16)
    values[0] = 65535
    exif = Image.Exif()
    exif[274] = 6  # shown turned by 90 degrees to the right
    shown = grey(values, "PNG", exif=exif)
    assert shown.shape == (6, 4)
    assert (shown[:, -1] == 255).all()
    assert (shown[:, :-1] == 0).all()


def test_the_transparent_value_of_a_grey_image_of_16_bits_is_white() -> None:
    values = np.array([[0, 30000], [0, 65535]], np.uint16)
    np.testing.assert_array_equal(grey(values, "PNG", transparency=0), [[255, 117], [255, 255]])


HEADS = [
    (b"\0\0\0\x1cftypheic\0\0\0\0", r"it is HEIC, which the package 'pillow-heif' decodes; install it with"),
    (b"\0\0\0\x1cftypmif1\0\0\0\0", "it is HEIC"),
    (b"\0\0\0\x1cftypcrx \0\0\0\x01", "it is a camera's raw file; export it as JPEG or PNG"),
    (b"FUJIFILMCCD-RAW 0201", "it is a camera's raw file"),
    (b"\0\0\0\x18ftypmp42\0\0\0\0", "it is a video; save one of its frames"),
    (b"\x1aE\xdf\xa3\x01\0\0\0", "it is a video"),
    (b"RIFF\x10\0\0\0AVI LIST", "it is a video"),
    (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "it is SVG, a drawing without pixels"),
    (b"\xef\xbb\xbf<svg/>", "it is SVG"),
    (b"\n<!DOCTYPE html><html>404</html>", "it is a web page"),
    (b"\xff\x0a\xfa\x1f", "it is JPEG XL; export it as PNG"),
    (b"8BPS\0\x01", "it is a Photoshop document"),
    (b"%PDF-1.7", "it is a PDF"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "it is a pointer of Git LFS; fetch the image"),
    (b"\0\x05\x16\x07\0\x02", "it is a companion file of macOS"),
    (b"", r"it is empty"),
    (b"what is this", "it is no image that Pillow knows"),
]


@pytest.mark.parametrize(("head", "sentence"), HEADS, ids=[sentence[:24] for _, sentence in HEADS])
def test_what_is_not_decoded_is_named_with_the_remedy(
    head: bytes, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "_formats", lambda: decoding.FORMATS)
    (tmp_path / "x.jpg").write_bytes(head)
    with pytest.raises(
        DataError, match=rf"the image .*x\.jpg cannot be opened \({sentence}.*\); replace or remove it\."
    ):
        FolderImages(tmp_path).open("x.jpg")


def test_a_tiff_of_unknown_pixels_says_how_to_save_it() -> None:
    stored = encoded(Image.new("RGB", (8, 8)), "TIFF").getvalue()
    rgb, unknown = (struct.pack("<HHIHH", 262, 3, 1, kind, 0) for kind in (2, 999))
    assert rgb in stored
    with pytest.raises(OSError, match="it is TIFF with pixels that Pillow does not decode; save it with 8 bits"):
        decode(io.BytesIO(stored.replace(rgb, unknown)))


@pytest.fixture
def fresh_formats() -> Iterator[None]:
    decoding._formats.cache_clear()
    yield
    decoding._formats.cache_clear()


@pytest.mark.usefixtures("fresh_formats")
def test_heic_is_decoded_by_its_package_where_that_is_installed() -> None:
    package = pytest.importorskip("pillow_heif", reason="needs the package pillow-heif")
    package.register_heif_opener()
    decoded = np.asarray(decode(encoded(Image.new("RGB", (32, 32), COLOUR), "HEIF")))
    np.testing.assert_allclose(decoded.mean(axis=(0, 1)), COLOUR, atol=4)


@pytest.mark.usefixtures("fresh_formats")
def test_heic_is_an_accepted_format_only_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert "HEIF" not in decoding._formats()
    decoding._formats.cache_clear()
    called: list[str] = []
    package = types.SimpleNamespace(register_heif_opener=lambda: called.append("registered"))
    monkeypatch.setitem(sys.modules, "pillow_heif", package)
    assert decoding._formats()[-1] == "HEIF"
    assert called == ["registered"]


@pytest.mark.parametrize("tag", [{254: 1}, {50706: b"\x01\x04\0\0"}], ids=["thumbnail first", "DNG"])
def test_the_thumbnail_of_a_raw_file_is_not_taken_for_the_image(tag: dict[int, object]) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for number, value in tag.items():
        tags[number] = value
    with pytest.raises(ValueError, match="it is a camera's raw file; export it"):
        decode(encoded(Image.new("RGB", (8, 8)), "TIFF", tiffinfo=tags))


def png_header(width: int, height: int) -> bytes:
    """A PNG that says how large it is and holds nothing."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", b"x"), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def test_pixels_are_counted_before_they_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "huge.png").write_bytes(png_header(50_000, 50_000))
    with pytest.raises(DataError, match=r"huge\.png cannot be opened \(Image size \(2500000000 pixels\) exceeds"):
        FolderImages(tmp_path).open("huge.png")
    monkeypatch.setattr(decoding, "MAX_PIXELS", 10_000_000)
    (tmp_path / "large.png").write_bytes(png_header(5000, 4000))
    with pytest.raises(DataError, match=r"it has 5000 x 4000 pixels, more than 10 million; shrink it"):
        FolderImages(tmp_path).open("large.png")


@pytest.mark.parametrize("ask", [ZipImages.open, ZipImages.digest, ZipImages.read])
def test_a_member_of_a_zip_is_not_unpacked_beyond_the_limit(
    ask: Callable[[ZipImages, str], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w", zipfile.ZIP_DEFLATED) as writer:
        writer.writestr("bomb.png", bytes(3_000_000))
        writer.writestr("small.png", encoded(Image.new("RGB", (8, 8)), "PNG").getvalue())
    assert (tmp_path / "all.zip").stat().st_size < 5000
    monkeypatch.setattr(images, "MAX_MEMBER_BYTES", 2**20)
    store = ZipImages(tmp_path / "all.zip")
    ask(store, "small.png")
    with pytest.raises(DataError, match=r"bomb\.png .*\(it is 3 MB unpacked, more than 1 MB\)"):
        ask(store, "bomb.png")


def test_a_member_that_lies_about_its_size_is_refused(tmp_path: Path) -> None:
    content = encoded(Image.new("RGB", (64, 64), COLOUR), "BMP").getvalue()
    with zipfile.ZipFile(tmp_path / "all.zip", "w", zipfile.ZIP_DEFLATED) as writer:
        writer.writestr("liar.bmp", content)
    told = (tmp_path / "all.zip").read_bytes().replace(struct.pack("<I", len(content)), struct.pack("<I", 100))
    (tmp_path / "all.zip").write_bytes(told)
    with pytest.raises(DataError, match=r"liar\.bmp cannot be opened \(Bad CRC-32"):
        ZipImages(tmp_path / "all.zip").open("liar.bmp")


@pytest.mark.parametrize("pack", ["folder", "zip"])
def test_a_store_lists_its_files_relative_to_itself(pack: str, tmp_path: Path) -> None:
    for name in ("in/b.png", "in/deep/a.png", "out.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    if pack == "zip":
        with zipfile.ZipFile(tmp_path / "all.zip", "w") as writer:
            writer.mkdir("in")
            for name in ("in/b.png", "in/deep/a.png", "out.png"):
                writer.write(tmp_path / name, name)
        assert ZipImages(tmp_path / "all.zip", "in/").file_names() == ["b.png", "deep/a.png"]
    else:
        assert FolderImages(tmp_path / "in").file_names() == ["b.png", "deep/a.png"]
