"""Which file of a store is meant by the name of an image in a table."""

from __future__ import annotations

import difflib
import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

import numpy as np
import pandas as pd

from pamela_rl.data.checks import Problem
from pamela_rl.data.images import FolderImages, ImageStore, ZipImages

IMAGE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".jp2", ".j2k", ".heic",
    ".heif", ".ppm", ".pgm",
)  # fmt: skip


def is_image(name: str) -> bool:
    """Return whether a path ends as those of images do, in any case. Hidden files and files in hidden folders are none."""
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))
    return name.lower().endswith(IMAGE_SUFFIXES) and not hidden


class ImageNames:
    """Finds the files that names of images mean, among the files of a folder or zip.

    A name means the file of that name, else the only file that is the same

    1. but for the Unicode form (NFC or NFD), the case, backslashes, ``./`` and blanks at the ends;
    2. and also but for the ending, where the name has none;
    3. and also but for folders before it, of which the name or the file may have more: 'set/a.png', '/home/me/a.png'
       and 'a.png' can mean the same file. Of several files, the one that shares more folders with the name is meant.

    By the third rule no file is meant by two different names. A name that could mean several files means none.
    """

    def __init__(self, files: Iterable[str]):
        self._files = [file for file in files if is_image(file)]
        self._exact = set(self._files)
        by_form: dict[str, list[str]] = defaultdict(list)
        by_last: dict[str, list[str]] = defaultdict(list)
        for file in self._files:
            form = _form(file)
            for key in (form, _without_suffix(form)):
                by_form[key].append(file)
                by_last[posixpath.basename(key)].append(file)
        self._by_form, self._by_last = by_form, by_last

    def find(self, names: Iterable[str], taken: Iterable[str] = ()) -> dict[str, str]:
        """Return the file of each name; names that mean none are left out.

        Args:
            names: Of a table.
            taken: Files that the table names as they are, so that the third rule does not give them to another name.
        """
        found: dict[str, str] = {}
        moved: dict[str, list[str]] = defaultdict(list)
        for name in dict.fromkeys(names):
            if name in self._exact:
                found[name] = name
                continue
            same = self._by_form.get(_form(name), [])
            if len(same) == 1:
                found[name] = same[0]
            elif not same and (file := self._in_another_folder(name)):
                moved[file].append(name)
        taken = {*taken, *found.values()}
        for file, wanting in moved.items():
            if file not in taken and len({_without_suffix(_form(name)) for name in wanting}) == 1:
                found.update(dict.fromkeys(wanting, file))
        return found

    def similar(self, name: str) -> str | None:
        """Return the file with the same numbers whose name is most like this one, if any is; for "did you mean"."""
        stem, numbers = _stem(name), _numbers(name)
        stems = {_stem(file): file for file in reversed(self._files) if _numbers(file) == numbers}
        close = difflib.get_close_matches(stem, stems, n=1, cutoff=0.75)
        return stems[close[0]] if close else None

    def _in_another_folder(self, name: str) -> str | None:
        parts = _form(name).split("/")
        files = self._by_last.get(parts[-1], [])
        shared = {file: _num_shared(parts, _form(file).split("/")) for file in files}
        best = [file for file, count in shared.items() if count == max(shared.values())]
        return best[0] if len(best) == 1 else None


class FoundImages:
    """The files that the names of images in tables mean, in a store of images.

    Only the files of a folder or zip have names that can be searched; of other stores, names are taken as they are.

    Args:
        store: Where the images are.
        names: Of all tables together.
    """

    def __init__(self, store: ImageStore, names: Sequence[str]):
        self._store = store
        reasons = {name: store.missing_reason(name) for name in dict.fromkeys(names)}
        self._reasons = {name: reason for name, reason in reasons.items() if reason}
        self._files: dict[str, str] = {}
        if self._reasons and self._names:
            self._files = self._names.find(self._reasons, reasons.keys() - self._reasons.keys())
            for name in self._files:
                del self._reasons[name]

    def file(self, name: str) -> str:
        """Return the file that a name means, or the name itself if it means none."""
        return self._files.get(name, name)

    def missing_reason(self, name: str) -> str | None:
        """Return why there is no image of this name, as ``ImageStore.missing_reason``, or None if there is one."""
        return self._reasons.get(name)

    def hint(self, name: object) -> str:
        """Return the question whether another image was meant, or nothing."""
        similar = self._names.similar(str(name)) if self._names else None
        return f" (did you mean {similar!r}?)" if similar else ""

    @cached_property
    def _names(self) -> ImageNames | None:
        if isinstance(self._store, FolderImages | ZipImages):
            return ImageNames(self._store.file_names())
        return None


def image_problems(rows: pd.DataFrame, column: str, images: FoundImages) -> Iterator[Problem]:
    """Yield the names of images in a column that mean no image."""
    codes, names = pd.factorize(rows[column])
    reasons = pd.Series([images.missing_reason(str(name)) for name in names], dtype=object)
    for remedy in reasons.dropna().unique():
        yield Problem(column, np.isin(codes, np.flatnonzero(reasons == remedy)), remedy, images.hint)


def _form(name: str) -> str:
    """Return a name for comparison."""
    text = unicodedata.normalize("NFC", name).replace("\\", "/").strip().casefold()
    return posixpath.normpath(re.sub(r"^[a-z]:/+", "/", text)).strip("/")


def _without_suffix(form: str) -> str:
    return posixpath.splitext(form)[0] if form.endswith(IMAGE_SUFFIXES) else form


def _stem(name: str) -> str:
    """Return the last part of a name without its ending and accents."""
    letters = unicodedata.normalize("NFD", posixpath.splitext(posixpath.basename(_form(name)))[0])
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def _numbers(name: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"[0-9]+", _stem(name))]


def _num_shared(name: Sequence[str], file: Sequence[str]) -> int:
    """Count folders at the end that a name and a file share."""
    count = 0
    for one, other in zip(reversed(name[:-1]), reversed(file[:-1])):
        if one != other:
            break
        count += 1
    return count
