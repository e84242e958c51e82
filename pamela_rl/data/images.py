"""Stores that decode images by id from a folder or from a zip archive, which is read in place."""

from __future__ import annotations

import hashlib
import io
import os
import posixpath
import zipfile
from pathlib import Path
from typing import Protocol

from PIL import Image

from pamela_rl.data.decoding import decode, decode_errors, read_errors
from pamela_rl.errors import DataError

MAX_MEMBER_BYTES = 2**29  # of one file in a zip, unpacked: 512 MB


class ImageStore(Protocol):
    """Where rated images are stored. Images are decoded by ``open`` and not cached."""

    def open(self, image: str) -> Image.Image:
        """Decode an image to RGB, rotated by its EXIF tag and on white where it is transparent, as browsers show it.

        Raises:
            DataError: It is missing, broken, or not inside the store.
        """
        ...

    def missing_reason(self, image: str) -> str | None:
        """Return why the image is not available, as the end of a sentence, or None if it is. Decodes nothing."""
        ...

    def digest(self, image: str) -> str:
        """Return the SHA-256 of the encoded bytes, in hex. Decodes nothing.

        Raises:
            DataError: It is missing, cannot be read, or is not inside the store.
        """
        ...


class FolderImages:
    """Images and other files in a folder; ids are paths relative to it.

    An id may also be an absolute path inside the folder. Symbolic links are followed: they were made by the owner of
    the folder, while ids come from the author of the table.
    """

    def __init__(self, root: str | Path):
        self.root = Path(os.path.abspath(root))

    def __str__(self) -> str:
        return str(self.root)

    def open(self, image: str) -> Image.Image:
        """Decode an image to RGB, as ``ImageStore.open``."""
        _raise_if_missing(image, self.missing_reason(image))
        with decode_errors(str(self._path(image))), open(self._path(image), "rb") as stream:
            return decode(stream)

    def digest(self, image: str) -> str:
        """Hash the image's file, as ``ImageStore.digest``."""
        _raise_if_missing(image, self.missing_reason(image))
        with decode_errors(str(self._path(image))), open(self._path(image), "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def missing_reason(self, image: str) -> str | None:
        """Return why the image is not available, or None, as ``ImageStore.missing_reason``."""
        if not str(self._path(image)).startswith(os.path.join(self.root, "")):
            return f"images lie inside {self.root} and this path leads out of it; give paths relative to that folder"
        return None if self.has_file(image) else f"there is no such image in {self.root}; add it or correct the path"

    def file_names(self) -> list[str]:
        """Return the paths of all files in the folder and its subfolders, sorted, with ``/`` on every system."""
        return sorted(file.relative_to(self.root).as_posix() for file in self.root.rglob("*") if file.is_file())

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
    """Images and other files in a zip, read in place; ids are paths relative to ``prefix`` inside it.

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
        """Decode an image to RGB, as ``ImageStore.open``."""
        _raise_if_missing(image, self.missing_reason(image))
        with decode_errors(f"{self}/{image}"):
            return decode(io.BytesIO(self._unpacked(image)))

    def digest(self, image: str) -> str:
        """Hash the image's file, as ``ImageStore.digest``."""
        _raise_if_missing(image, self.missing_reason(image))
        with decode_errors(f"{self}/{image}"):
            return hashlib.sha256(self._unpacked(image)).hexdigest()

    def missing_reason(self, image: str) -> str | None:
        """Return why the image is not available, or None, as ``ImageStore.missing_reason``."""
        path = posixpath.normpath(image)
        if path.startswith(("../", "/")) or path == "..":
            return f"images lie inside {self} and this path leads out of it; give paths relative to it"
        return None if self.has_file(image) else f"there is no such image in {self}; correct the path or remove the row"

    def file_names(self) -> list[str]:
        """Return the paths of all files in the folder and its subfolders, sorted."""
        files = (name for name in self.names if name.startswith(self.prefix) and not name.endswith("/"))
        return sorted(name.removeprefix(self.prefix) for name in files)

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
            return self._unpacked(name)

    def subfolder(self, folder: str) -> ZipImages:
        """Return the files of a folder in the archive."""
        return ZipImages(self.archive, self._member(folder) + "/", opened=self._opened)

    def _unpacked(self, name: str) -> bytes:
        """Return a member's bytes. zipfile reads no more than the declared size, which is checked first."""
        member = self._zip.getinfo(self._member(name))
        if member.file_size > MAX_MEMBER_BYTES:
            raise zipfile.BadZipFile(
                f"it is {member.file_size // 10**6:,} MB unpacked, more than {MAX_MEMBER_BYTES // 2**20} MB"
            )
        return self._zip.read(member)

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
    """Return the files of a folder, of a zip, or of a folder in a zip (``images.zip/part1``).

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
    raise DataError(f"there is no folder or zip {path}; give the folder of images, or the archive as downloaded.")


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


def _raise_if_missing(image: str, missing_reason: str | None) -> None:
    if missing_reason:
        raise DataError(f"cannot open the image {image!r}: {missing_reason}.")
