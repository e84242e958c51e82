"""What a file is that Pillow does not decode, by its first bytes, and what to do about it."""

from __future__ import annotations

RAW = "a camera's raw file; export it as JPEG or PNG with the camera's own software"
VIDEO = "a video; save one of its frames as an image"
BRANDS = {  # of the box "ftyp" that HEIC, AVIF, raw files and videos begin with
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIC"),
    b"avif": "AVIF, which this build of Pillow does not decode; install pillow 11.3 or newer",
    b"crx ": RAW,
}
HEIC = "HEIC, which the package 'pillow-heif' decodes; install it with 'pip install pillow-heif', or export it as JPEG"
SIGNATURES = {
    b"FUJIFILMCCD-RAW": RAW,
    b"IIRO": RAW,
    b"IIRS": RAW,
    b"IIU\0": RAW,
    b"\xff\x0a": "JPEG XL; export it as PNG or JPEG",
    b"\0\0\0\x0cJXL ": "JPEG XL; export it as PNG or JPEG",
    b"8BPS": "a Photoshop document; export it as PNG",
    b"%PDF": "a PDF; export its pages as PNG",
    b"%!PS": "PostScript; export it as PNG",
    b"\xc5\xd0\xd3\xc6": "PostScript; export it as PNG",
    b"\x1aE\xdf\xa3": VIDEO,
    b"\0\0\x01\xba": VIDEO,
    b"\0\0\x01\xb3": VIDEO,
    b"\0\x05\x16\x07": "a companion file of macOS without an image; remove it",
    b"version https://git-lfs": "a pointer of Git LFS; fetch the image itself with 'git lfs pull'",
    b"PK\x03\x04": "a zip; unpack it, or give it as the folder of images",
    b"II*\0": "TIFF with pixels that Pillow does not decode; save it with 8 bits per channel, or as PNG",
    b"MM\0*": "TIFF with pixels that Pillow does not decode; save it with 8 bits per channel, or as PNG",
}


def describe(head: bytes) -> str | None:
    """Return what a file is that is no image Pillow decodes, and the remedy; None if its bytes say nothing.

    Args:
        head: The first bytes of the file, 512 or more where it is that long.
    """
    if not head.strip():
        return "empty" if not head else None
    if head[4:8] == b"ftyp":
        kind = BRANDS.get(head[8:12], VIDEO)
        return HEIC if kind == "HEIC" else kind
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return VIDEO
    for signature, kind in SIGNATURES.items():
        if head.startswith(signature):
            return kind
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in start:
        return "SVG, a drawing without pixels; export it as PNG"
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page, perhaps an error message of a download; download the image again"
    return None
