"""FLICKR-AES (ICCV 2017): about 41,000 photographs rated by 210 people, 193,208 ratings from 1 to 5.

From the authors' README: ``FLICKR-AES_image_labeled_by_each_worker.csv`` holds single ratings,
``FLICKR-AES_image_score.txt`` weighted means, which are not read here. From public code that reads it: the columns are
``worker, imagePair, score``, with a blank before the second and third name, and integer scores; the pictures are in
``40K``, which is a separate archive, as ``FLICKR-AES-001/40K``. Its issues report that some rated pictures are missing:
``on_bad_row="skip"`` skips those and reports how many. This reader was not tested on the data itself, which was not
available. There are no demographics, and the split into 173 and 37 people is not published with it.
"""

from __future__ import annotations

from pathlib import Path

from pamela_rl.data.checks import OnBadRow
from pamela_rl.data.files import parse
from pamela_rl.data.images import Files, find_files, open_files
from pamela_rl.data.ratings import RatingScale
from pamela_rl.data.sources.rated_images import RatedImages, SourceTable, build_rated_images
from pamela_rl.errors import DataError

RATINGS = "FLICKR-AES_image_labeled_by_each_worker.csv"
IMAGES = ("40K", "FLICKR-AES-001/40K")
COLUMNS = {"user_id": "worker", "image": "imagePair", "rating": "score"}


def read_flickr_aes(
    path: str | Path, *, images: str | Path | None = None, on_bad_row: OnBadRow = "stop"
) -> RatedImages:
    """Read FLICKR-AES from its folder.

    Args:
        path: Folder or archive with the CSV.
        images: Folder or archive with ``40K``, e.g. ``FLICKR-AES-001.zip``, or the folder of pictures itself; None is
            ``path``.
        on_bad_row: "stop" at the first bad row, or "skip" bad rows and report them.

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
    store = _image_folder(files if images is None else open_files(images), explicit=images is not None)
    return build_rated_images(
        [SourceTable(source, rows, COLUMNS, broken)], source, store, RatingScale(1, 5), None, on_bad_row
    )


def _image_folder(files: Files, explicit: bool) -> Files:
    for folder in IMAGES:
        if files.has_folder(folder):
            return files.subfolder(folder)
    if not explicit:
        raise DataError(f"{files} holds no folder {' or '.join(IMAGES)}; say where the pictures are with images=.")
    return files
