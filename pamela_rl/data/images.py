"""Stores that decode pictures by id from a folder or from a zip archive, which is read in place."""

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

# image formats that are accepted; for a PostScript file Pillow would start Ghostscript
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")


# zipfile raises RuntimeError for encrypted members and NotImplementedError for unknown compression
READ_FAILURES = (OSError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


class ImageStore(Protocol):
    """Where rated pictures are stored. Pictures are decoded by ``open`` and not cached."""

    def open(self, image: str) -> Image.Image:
        """Decode a picture to RGB, rotated by its EXIF tag and on white where it is transparent, as browsers show it.

        Raises:
            DataError: It is missing, broken, or not inside the store.
        """
        ...

    def missing_reason(self, image: str) -> str | None:
        """Return why the picture is not available, as the end of a sentence, or None if it is. Decodes nothing."""
        ...

    def digest(self, image: str) -> str:
        """Return the SHA-256 of the encoded bytes, in hex. Decodes nothing.

        Raises:
            DataError: It is missing, cannot be read, or is not inside the store.
        """
        ...


class FolderImages:
    """Pictures and other files in a folder; ids are paths relative to it.

    An id may also be an absolute path inside the folder. Symbolic links are followed: they were made by the owner of
    the folder, while ids come from the author of the table.
    """

    def __init__(self, root: str | Path):
        self.root = Path(os.path.abspath(root))

    def __str__(self) -> str:
        return str(self.root)

    def open(self, image: str) -> Image.Image:
        """Decode a picture to RGB, as ``ImageStore.open``."""
        _raise_if_missing(image, self.missing_reason(image))
        with decode_errors(str(self._path(image))), open(self._path(image), "rb") as stream:
            return decode(stream)

    def digest(self, image: str) -> str:
        """Hash the picture's file, as ``ImageStore.digest``."""
        _raise_if_missing(image, self.missing_reason(image))
        with decode_errors(str(self._path(image))), open(self._path(image), "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def missing_reason(self, image: str) -> str | None:
        """Return why the picture is not available, or None, as ``ImageStore.missing_reason``."""
        if not str(self._path(image)).startswith(os.path.join(self.root, "")):
            return f"pictures lie inside {self.root} and this path leads out of it; give paths relative to that folder"
        return None if self.has_file(image) else f"there is no such picture in {self.root}; add it or correct the path"

    def has_file(self, name: str) -> bool:
        """Return whether the file exists."""
        return self._path(name).is_file()

    def has_folder(self, name: str) -> bool:
        """Return whether the folder exists."""
        return self._path(name).is_dir()

    def read(self, name: str) -> bytes:
        """Return a file's bytes.

        Raises:
            DataError: It cannot be read.
        """
        with read_errors(f"{self}/{name}"):
            return self._path(name).read_bytes()

    def subfolder(self, folder: str) -> FolderImages:
        """Return the files of a subfolder."""
        return FolderImages(self._path(folder))

    def _path(self, name: str) -> Path:
        return Path(os.path.normpath(os.path.join(self.root, name)))


class ZipImages:
    """Pictures and other files in a zip, read in place; ids are paths relative to ``prefix`` inside it.

    Every process opens the archive itself, so that workers do not share a file position.
    """

    def __init__(self, archive: str | Path, prefix: str = "", *, opened: tuple[int, zipfile.ZipFile] | None = None):
        self.archive, self.prefix, self._opened = Path(archive), prefix, opened
        _ = self._zip  # fail early if the archive cannot be opened

    def __str__(self) -> str:
        return f"{self.archive}/{self.prefix}".rstrip("/")

    def __reduce__(self) -> tuple[type[ZipImages], tuple[Path, str]]:
        return ZipImages, (self.archive, self.prefix)

    @property
    def names(self) -> list[str]:
        """Names of all files in the archive, regardless of the prefix."""
        return self._zip.namelist()

    def open(self, image: str) -> Image.Image:
        """Decode a picture to RGB, as ``ImageStore.open``."""
        _raise_if_missing(image, self.missing_reason(image))
        with decode_errors(f"{self}/{image}"):
            return decode(io.BytesIO(self._zip.read(self._member(image))))

    def digest(self, image: str) -> str:
        """Hash the picture's file, as ``ImageStore.digest``."""
        _raise_if_missing(image, self.missing_reason(image))
        with decode_errors(f"{self}/{image}"):
            return hashlib.sha256(self._zip.read(self._member(image))).hexdigest()

    def missing_reason(self, image: str) -> str | None:
        """Return why the picture is not available, or None, as ``ImageStore.missing_reason``."""
        path = posixpath.normpath(image)
        if path.startswith(("../", "/")) or path == "..":
            return f"pictures lie inside {self} and this path leads out of it; give paths relative to it"
        return (
            None if self.has_file(image) else f"there is no such picture in {self}; correct the path or remove the row"
        )

    def has_file(self, name: str) -> bool:
        """Return whether the file exists."""
        return self._member(name) in self._zip.NameToInfo

    def has_folder(self, name: str) -> bool:
        """Return whether the folder exists."""
        folder = self._member(name) + "/"
        return any(member.startswith(folder) for member in self.names)

    def read(self, name: str) -> bytes:
        """Return a file's bytes.

        Raises:
            DataError: It cannot be read.
        """
        with read_errors(f"{self}/{name}"):
            return self._zip.read(self._member(name))

    def subfolder(self, folder: str) -> ZipImages:
        """Return the files of a folder in the archive."""
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
    """Return the files of a folder, of a zip, or of a folder in a zip (``pictures.zip/part1``).

    Raises:
        DataError: The path is none of these.
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
                return files.subfolder(inside)
    raise DataError(f"there is no folder or zip {path}; give the folder of pictures, or the archive as downloaded.")


def find_files(path: str | Path, marker: str) -> Files:
    """Find the folder with the file ``marker``: ``path`` itself, one of its subfolders, or any folder in a zip.

    Raises:
        DataError: No folder has it.
    """
    files = open_files(path)
    if isinstance(files, FolderImages):
        folders: list[Files] = [files, *(FolderImages(f) for f in sorted(files.root.iterdir()) if f.is_dir())]
    else:
        ends = ("/" + name for name in files.names)
        found = sorted({end[1 : -len(marker)] for end in ends if end.endswith("/" + marker)}, key=len)
        kept = (prefix for prefix in found if not prefix.startswith("__MACOSX/"))
        folders = [files.subfolder(prefix) if prefix else files for prefix in kept]
    for folder in folders:
        if folder.has_file(marker):
            return folder
    raise DataError(f"{path} holds no {marker}; give the folder that holds it, or the archive as downloaded.")


def decode(stream: IO[bytes]) -> Image.Image:
    """Decode to RGB, rotated by the EXIF tag and on white where it is transparent, as browsers show it."""
    with Image.open(stream, formats=FORMATS) as opened:
        image = ImageOps.exif_transpose(opened)
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image.convert("RGB")


@contextmanager
def read_errors(where: str) -> Iterator[None]:
    """Turn errors of the file system and of zipfile into a ``DataError``.

    Raises:
        DataError: Names the file.
    """
    try:
        yield
    except READ_FAILURES as error:
        raise DataError(f"cannot read {where} ({error}); correct the path or replace the file.") from error


@contextmanager
def decode_errors(where: str) -> Iterator[None]:
    """Turn errors of Pillow and zipfile into a ``DataError``.

    Raises:
        DataError: Names the picture.
    """
    try:
        yield
    except (
        *READ_FAILURES,
        ValueError,
        SyntaxError,
        Image.DecompressionBombError,
    ) as error:  # a broken PNG: SyntaxError
        raise DataError(f"the image {where} cannot be opened ({error}); replace or remove it.") from error


def _raise_if_missing(image: str, missing_reason: str | None) -> None:
    if missing_reason:
        raise DataError(f"cannot open the image {image!r}: {missing_reason}.")
