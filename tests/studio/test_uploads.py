"""Uploads: what is a picture is kept without what else was in its file, what is none is refused, and nothing breaks."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin
from visitors import Browser, png

from pamela_rl.studio.database.opening import open_database
from pamela_rl.studio.limited import Gone, LimitedProcess
from pamela_rl.studio.people import ensure_first
from pamela_rl.studio.pictures import picture_file, small_file
from pamela_rl.studio.settings import StudioSettings, UploadLimits
from pamela_rl.studio.uploads import decoded
from pamela_rl.studio.web.app import create_app


def encoded(image: Image.Image, kind: str, **how: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **how)
    return stream.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_that_says(width: int, height: int, data: bytes) -> bytes:
    """A PNG whose header promises a size that its data need not have."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", data) + chunk(b"IEND", b"")


WHOLE = png(64, 64)
NOISE = Image.effect_noise((64, 64), 90).convert("RGB")
MALFORMED: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "one byte": lambda: b"\x89",
    "text": lambda: b"not a picture",
    "zeros": lambda: bytes(100_000),
    "a page": lambda: b"<!doctype html><script>alert(1)</script>",
    "svg": lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    "pdf": lambda: b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n%%EOF",
    "postscript": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n",
    "zip": lambda: b"PK\x05\x06" + bytes(18),
    "a program": lambda: b"\x7fELF" + bytes(200),
    "png cut in its header": lambda: WHOLE[:20],
    "png cut in its data": lambda: encoded(NOISE, "PNG")[:2000],
    "png with a wrong checksum": lambda: WHOLE[:40] + b"\0\0\0\0" + WHOLE[44:],
    "png of no width": lambda: png_that_says(0, 8, zlib.compress(b"")),
    "png of too many pixels": lambda: png_that_says(50_000, 50_000, zlib.compress(bytes(1000))),
    "png that is a bomb": lambda: png_that_says(9000, 9000, zlib.compress(bytes(9000 * 27_001), 9)),
    "png with garbage as data": lambda: png_that_says(64, 64, b"garbage"),
    "jpeg cut": lambda: encoded(NOISE, "JPEG")[:300],
    "jpeg of markers": lambda: b"\xff\xd8" + b"\xff\xe0" * 5000,
    "gif of nothing": lambda: b"GIF89a\xff\xff\xff\xff\x00\x00\x00",
    "webp cut": lambda: encoded(NOISE, "WEBP")[:60],
    "avif cut": lambda: encoded(NOISE, "AVIF")[:200],
    "tiff that points at itself": lambda: b"II*\0\x08\0\0\0\x01\0\x11\x01\x04\0\x01\0\0\0\x08\0\0\0\x08\0\0\0",
    "bmp of a negative size": lambda: b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, -9, -9, 1, 24, 0, 0, 0, 0, 0, 0),
    "jpeg 2000": lambda: encoded(NOISE, "JPEG2000"),
}  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    folder = tmp_path_factory.mktemp("studio")
    database = open_database(folder)
    database.migrate()
    with database.changing() as session:
        ensure_first(session)
    limits = UploadLimits(files=len(MALFORMED) + 3, megabytes=4, megapixels=20, pictures=8, longest_side=512)
    settings = StudioSettings(folder=folder, workers=0, uploads=limits)
    yield Browser(create_app(settings, database), base_url="http://127.0.0.1")
    database.close()


def test_malformed_files_are_refused_each_with_why_and_whole_ones_beside_them_are_kept(browser: Browser) -> None:
    files = [("files", (name, make())) for name, make in MALFORMED.items()]
    told = browser.post(
        "/api/pictures", files=[("files", ("first", WHOLE)), *files, ("files", ("last", png(9, 9)))]
    ).json()
    assert {refused["name"] for refused in told["refused"]} == set(MALFORMED)
    assert all(refused["why"] and "Traceback" not in refused["why"] for refused in told["refused"])
    assert [(picture["width"], picture["height"]) for picture in told["added"]] == [(64, 64), (9, 9)]
    assert len(MALFORMED) >= 20


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "TIFF"])
def test_what_else_is_in_a_file_stays_behind(kind: str) -> None:
    image, exif = Image.new("RGB", (20, 10), (200, 30, 30)), Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "secret words"  # to be turned; a description
    how: dict[str, object] = {"exif": exif} if kind in ("JPEG", "WEBP", "PNG", "AVIF", "TIFF") else {}
    if kind in ("JPEG", "GIF"):
        how["comment"] = "secret words"
    if kind == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_text("parameters", "secret words")
        how["pnginfo"] = text
    ((_, made),) = decoded([("a", encoded(image, kind, **how))], UploadLimits())
    assert not isinstance(made, str), made
    assert (made.width, made.height) == ((10, 20) if "exif" in how else (20, 10))
    for data in (made.png, made.small):
        opened = Image.open(io.BytesIO(data))
        opened.load()
        assert b"secret words" not in data
        assert not opened.getexif()
        assert opened.info.keys() <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


def test_large_pictures_are_made_smaller_and_come_with_a_small_one(browser: Browser) -> None:
    told = browser.post(
        "/api/pictures", files={"files": ("../../etc/passwd", png(1000, 500))}, data={"prompt": "<b>"}
    ).json()
    (picture,) = told["added"]
    assert (picture["width"], picture["height"], picture["prompt"]) == (512, 256, "<b>")
    assert Image.open(io.BytesIO(browser.get(picture["src"]).content)).size == (512, 256)
    reply = browser.get(picture["small"])
    assert Image.open(io.BytesIO(reply.content)).size == (256, 128)
    assert reply.headers["cache-control"] == "private, max-age=31536000, immutable"
    again = browser.post("/api/pictures", files={"files": ("other name", png(1000, 500))}).json()
    assert [same["id"] for same in again["added"]] == [picture["id"]]
    folder = browser.app.state.studio.settings.folder  # type: ignore[attr-defined]
    person = browser.get("/api/people").json()["people"][0]["id"]
    assert browser.delete(f"/api/pictures/{picture['id']}").status_code == 200
    assert not picture_file(folder, person, picture["id"]).exists()
    assert not small_file(folder, person, picture["id"]).exists()
    assert browser.get(picture["src"]).status_code == 404


def test_too_many_and_too_large_are_refused_before_they_are_read(browser: Browser) -> None:
    many = [("files", (str(number), b"x")) for number in range(len(MALFORMED) + 4)]
    assert browser.post("/api/pictures", files=many).status_code == 413
    large = bytes(5 * 2**20)
    assert browser.post("/api/pictures", files={"files": ("large", large)}).status_code == 413
    pieces = browser.post("/api/pictures", content=(large[:2**16] for _ in range(80)),
                          headers={"content-type": "multipart/form-data; boundary=x"})  # fmt: skip
    assert pieces.status_code == 413, "a body that does not say how long it is"
    assert browser.post("/api/people", content=large).status_code == 413


def test_a_library_has_an_end(browser: Browser) -> None:
    sent = [("files", (str(number), png(5, 5, (number, 0, 0)))) for number in range(9)]
    told = browser.post("/api/pictures", files=sent).json()
    assert 0 < len(told["added"]) < 9
    assert told["refused"][-1]["why"] == "your library is full with 8 pictures; remove some first"


def test_a_process_that_takes_too_long_costs_one_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sleeper.py").write_text(
        "import time\nfrom pamela_rl.studio.limited import answer_all\n"
        "def answer(request, data):\n"
        "    time.sleep(request['seconds'])\n"
        "    held = bytearray(request.get('megabytes', 0) * 2**20)\n"
        "    return {'got': len(data)}, data\n"
        "answer_all(answer, 1000)\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[2]}")
    with LimitedProcess("sleeper", seconds=20) as process:
        assert process.ask({"seconds": 0}, b"abc") == ({"got": 3, "bytes": 3}, b"abc")
        process.seconds = 1
        with pytest.raises(Gone):
            process.ask({"seconds": 60})
        process.seconds = 20
        with pytest.raises(Gone):
            process.ask({"seconds": 0, "megabytes": 2000})
        assert process.ask({"seconds": 0}, b"d")[1] == b"d"
