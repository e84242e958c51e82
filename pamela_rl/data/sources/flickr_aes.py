"""FLICKR-AES (ICCV 2017): about 41,000 photographs rated by 210 people, 193,208 ratings from 1 to 5.

What its authors' README says: ``FLICKR-AES_image_labeled_by_each_worker.csv`` holds single ratings,
``FLICKR-AES_image_score.txt`` weighted means, which are not read here. From public code that reads it: the columns are
``worker, imagePair, score``, with a blank before the later names, integer scores; the pictures lie in ``40K``, which
comes in an archive of its own, as ``FLICKR-AES-001/40K``. Users report in its issues that some rated pictures are
missing: ``on_bad_row="skip"`` leaves those out and tells how many. The data itself could not be had here; it says
nothing of the people, and the split into 173 and 37 of them is not published with it.
"""

from __future__ import annotations

from pathlib import Path

from pamela_rl.data.checks import OnBadRow
from pamela_rl.data.files import parse
from pamela_rl.data.images import Files, find_files, open_files
from pamela_rl.data.ratings import RatingScale
from pamela_rl.data.sources.rated_images import Part, RatedImages, assemble
from pamela_rl.errors import DataError

RATINGS = "FLICKR-AES_image_labeled_by_each_worker.csv"
IMAGES = ("40K", "FLICKR-AES-001/40K")
COLUMNS = {"user_id": "worker", "image": "imagePair", "rating": "score"}


def read_flickr_aes(
    path: str | Path, *, images: str | Path | None = None, on_bad_row: OnBadRow = "stop"
) -> RatedImages:
    """Read FLICKR-AES from its folder.

    Args:
        path: What holds the CSV.
        images: What holds ``40K``, e.g. the archive ``FLICKR-AES-001.zip``, or the folder of pictures itself; None is
            ``path``.
        on_bad_row: "stop" at the first bad row, or "skip" all of them and tell which.

    Raises:
        DataError: The data cannot be found, or a row is wrong; names file, row, value and remedy.
    """
    files = find_files(path, RATINGS)
    source = f"{files}/{RATINGS}"
    ids = [blank + name for name in ("worker", "imagePair") for blank in ("", " ")]
    rows, broken = parse(files.read(RATINGS), ".csv", ids, source, on_bad_row)
    rows = rows.rename(columns=lambda name: str(name).strip())
    for column in ("worker", "imagePair"):
        if column in rows.columns:
            rows[column] = rows[column].str.strip()
    store = _pictures(files if images is None else open_files(images), named=images is not None)
    return assemble([Part(source, rows, COLUMNS, broken)], source, store, RatingScale(1, 5), None, on_bad_row)


def _pictures(files: Files, named: bool) -> Files:
    for folder in IMAGES:
        if files.has_folder(folder):
            return files.within(folder)
    if not named:
        raise DataError(f"{files} holds no folder {' or '.join(IMAGES)}; say where the pictures are with images=.")
    return files
