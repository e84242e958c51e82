"""Pictures by their id, decoded when asked for, out of a folder or a zip that is never unpacked."""

from __future__ import annotations

import hashlib
import io
import os
import posixpath
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol

from PIL import Image, ImageOps

from pamela_rl.errors import DataError

# what people rate; Pillow would start Ghostscript for a file that says it is PostScript
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")


# encrypted members of an archive are RuntimeErrors, unheard-of compression is a NotImplementedError
UNREADABLE = (OSError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


class ImageStore(Protocol):
    """Where rated pictures lie. Nothing is decoded before ``open``, and nothing decoded is kept."""

    def open(self, image: str) -> Image.Image:
        """Decode one picture to RGB, turned and laid on white as a browser shows it.

        Raises:
            DataError: It is missing, broken, or not inside the store.
        """
        ...

    def refusal(self, image: str) -> str | None:
        """Say why there is no such picture, as the end of a sentence, or None where there is one. Decodes nothing."""
        ...

    def digest(self, image: str) -> str:
        """Hash the bytes that ``open`` would decode, SHA-256 in hex; other bytes, another hash. Decodes nothing.

        Raises:
            DataError: It is missing, cannot be read, or is not inside the store.
        """
        ...


class FolderImages:
    """Pictures and other files under a folder; ids are paths relative to it.

    An id may also be an absolute path, if it lies inside. Symbolic links are followed: whoever made the folder made
    them, while ids come from whoever wrote the table.
    """

    def __init__(self, root: str | Path):
        self.root = Path(os.path.abspath(root))

    def __str__(self) -> str:
        return str(self.root)

    def open(self, image: str) -> Image.Image:
        """Decode one picture to RGB, as ``ImageStore.open``."""
        _stop(image, self.refusal(image))
        with decoding(str(self._path(image))), open(self._path(image), "rb") as stream:
            return decode(stream)

    def digest(self, image: str) -> str:
        """Hash the picture's file, as ``ImageStore.digest``."""
        _stop(image, self.refusal(image))
        with decoding(str(self._path(image))), open(self._path(image), "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def refusal(self, image: str) -> str | None:
        """Say why there is no such picture, as the end of a sentence, or None."""
        if not str(self._path(image)).startswith(os.path.join(self.root, "")):
            return f"pictures lie inside {self.root} and this path leads out of it; give paths relative to that folder"
        return None if self.has(image) else f"there is no such picture in {self.root}; add it or correct the path"

    def has(self, name: str) -> bool:
        """Tell whether there is such a file."""
        return self._path(name).is_file()

    def has_folder(self, name: str) -> bool:
        """Tell whether there is such a folder."""
        return self._path(name).is_dir()

    def read(self, name: str) -> bytes:
        """Return a file's bytes.

        Raises:
            DataError: It cannot be read.
        """
        with reading(f"{self}/{name}"):
            return self._path(name).read_bytes()

    def within(self, folder: str) -> FolderImages:
        """Return what lies in a folder of this one."""
        return FolderImages(self._path(folder))

    def _path(self, name: str) -> Path:
        return Path(os.path.normpath(os.path.join(self.root, name)))


class ZipImages:
    """Pictures and other files in a zip, read in place; ids are paths relative to ``prefix`` inside it.

    Every process opens the archive for itself, so that workers do not move each other's place in it.
    """

    def __init__(self, archive: str | Path, prefix: str = "", *, opened: tuple[int, zipfile.ZipFile] | None = None):
        self.archive, self.prefix, self._opened = Path(archive), prefix, opened
        _ = self._zip  # an archive that cannot be opened is better known now

    def __str__(self) -> str:
        return f"{self.archive}/{self.prefix}".rstrip("/")

    def __reduce__(self) -> tuple[type[ZipImages], tuple[Path, str]]:
        return ZipImages, (self.archive, self.prefix)

    @property
    def names(self) -> list[str]:
        """Everything in the archive, whatever the prefix."""
        return self._zip.namelist()

    def open(self, image: str) -> Image.Image:
        """Decode one picture to RGB, as ``ImageStore.open``."""
        _stop(image, self.refusal(image))
        with decoding(f"{self}/{image}"):
            return decode(io.BytesIO(self._zip.read(self._member(image))))

    def digest(self, image: str) -> str:
        """Hash the picture's file, as ``ImageStore.digest``."""
        _stop(image, self.refusal(image))
        with decoding(f"{self}/{image}"):
            return hashlib.sha256(self._zip.read(self._member(image))).hexdigest()

    def refusal(self, image: str) -> str | None:
        """Say why there is no such picture, as the end of a sentence, or None."""
        path = posixpath.normpath(image)
        if path.startswith(("../", "/")) or path == "..":
            return f"pictures lie inside {self} and this path leads out of it; give paths relative to it"
        return None if self.has(image) else f"there is no such picture in {self}; correct the path or remove the row"

    def has(self, name: str) -> bool:
        """Tell whether there is such a file."""
        return self._member(name) in self._zip.NameToInfo

    def has_folder(self, name: str) -> bool:
        """Tell whether there is such a folder."""
        folder = self._member(name) + "/"
        return any(member.startswith(folder) for member in self.names)

    def read(self, name: str) -> bytes:
        """Return a file's bytes.

        Raises:
            DataError: It cannot be read.
        """
        with reading(f"{self}/{name}"):
            return self._zip.read(self._member(name))

    def within(self, folder: str) -> ZipImages:
        """Return what lies in a folder of the archive."""
        return ZipImages(self.archive, self._member(folder) + "/", opened=self._opened)

    def _member(self, name: str) -> str:
        return posixpath.normpath(self.prefix + name)

    @property
    def _zip(self) -> zipfile.ZipFile:
        if self._opened is None or self._opened[0] != os.getpid():
            try:
                self._opened = (os.getpid(), zipfile.ZipFile(self.archive))
            except (OSError, zipfile.BadZipFile) as error:
                raise DataError(f"cannot open the archive {self.archive} ({error}); give a whole zip file.") from error
        return self._opened[1]


Files = FolderImages | ZipImages


def open_files(path: str | Path) -> Files:
    """Return what lies in a folder, in a zip, or in a folder of a zip (``pictures.zip/part1``).

    Raises:
        DataError: It is none of them.
    """
    place = Path(path)
    if place.is_dir():
        return FolderImages(place)
    for archive in (place, *place.parents):
        if archive.is_file():
            files = ZipImages(archive)
            inside = place.relative_to(archive).as_posix()
            if inside == ".":
                return files
            if files.has_folder(inside):
                return files.within(inside)
    raise DataError(f"there is no folder or zip {path}; give the folder of pictures, or the archive as downloaded.")


def find_files(path: str | Path, landmark: str) -> Files:
    """Return the folder that holds the file ``landmark``: ``path``, one of its folders, or any folder in a zip.

    Raises:
        DataError: There is none.
    """
    files = open_files(path)
    if isinstance(files, FolderImages):
        places: list[Files] = [files, *(FolderImages(f) for f in sorted(files.root.iterdir()) if f.is_dir())]
    else:
        ends = ("/" + name for name in files.names)
        found = sorted({end[1 : -len(landmark)] for end in ends if end.endswith("/" + landmark)}, key=len)
        kept = (prefix for prefix in found if not prefix.startswith("__MACOSX/"))
        places = [files.within(prefix) if prefix else files for prefix in kept]
    for place in places:
        if place.has(landmark):
            return place
    raise DataError(f"{path} holds no {landmark}; give the folder that holds it, or the archive as downloaded.")


def decode(stream: IO[bytes]) -> Image.Image:
    """Decode to RGB, turned as its EXIF says and laid on white where it is transparent, as a browser shows it."""
    with Image.open(stream, formats=FORMATS) as picture:
        shown = ImageOps.exif_transpose(picture)
        if shown.has_transparency_data:
            shown = shown.convert("RGBA")
            shown = Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown)
        return shown.convert("RGB")


@contextmanager
def reading(where: str) -> Iterator[None]:
    """Turn what the file system and zipfile raise into a sentence.

    Raises:
        DataError: Names the file.
    """
    try:
        yield
    except UNREADABLE as error:
        raise DataError(f"cannot read {where} ({error}); correct the path or replace the file.") from error


@contextmanager
def decoding(where: str) -> Iterator[None]:
    """Turn what Pillow and zipfile raise for broken pictures into a sentence.

    Raises:
        DataError: Names the picture.
    """
    try:
        yield
    except (*UNREADABLE, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # a broken PNG: SyntaxError
        raise DataError(f"the image {where} cannot be opened ({error}); replace or remove it.") from error


def _stop(image: str, refusal: str | None) -> None:
    if refusal:
        raise DataError(f"cannot open the image {image!r}: {refusal}.")
