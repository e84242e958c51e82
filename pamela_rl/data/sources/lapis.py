"""LAPIS (arXiv 2504.07670): 11,723 artworks, each rated by about 24 of some 570 people on a slider from 0 to 100.

The dataset is available on request and was not available for tests. The layout is that of public code that reads it:
``annotation/LAPIS_PIAA.csv`` with ``image_id, image_filename, participant_id, rating`` and, in every row, ``age,
nationality, demo_gender, demo_edu, demo_colorblind`` and ``Art Interest VAIAK``; ``images/`` with the files. The same
code reports: the text is partly Latin-1; some 6 % of ratings are by people without demographics; the names of a few
images do not match their files (``on_bad_row="skip"`` skips those and reports how many). An earlier release has the same
columns, with ``response`` for ``rating``, in a file with another name: give it as ``ratings``. Not checked: whether the
release on the hub (asmaerten/LAPIS) has these columns.
"""

from __future__ import annotations

from pathlib import Path

from pamela_rl.data.checks import OnBadRow
from pamela_rl.data.files import parse
from pamela_rl.data.images import find_files
from pamela_rl.data.ratings import RatingScale
from pamela_rl.data.sources.rated_images import RatedImages, SourceTable, build_rated_images, collect_raters

DEMOGRAPHICS = {
    "age": "age",
    "nationality": "nationality",
    "demo_gender": "gender",
    "demo_edu": "education",
    "demo_colorblind": "colorblind",
    "Art Interest VAIAK": "art_interest",
}


def read_lapis(
    path: str | Path, *, ratings: str = "annotation/LAPIS_PIAA.csv", on_bad_row: OnBadRow = "stop"
) -> RatedImages:
    """Read LAPIS from its folder or an archive of it; image attributes such as style and genre are kept as columns.

    Args:
        path: Folder or archive with ``annotation`` and ``images``.
        ratings: The table of single ratings in it.
        on_bad_row: "stop" at the first bad row, or "skip" bad rows and report them.

    Raises:
        DataError: The data cannot be found, or a row is wrong; names file, row, value and remedy.
    """
    files = find_files(path, ratings)
    source = f"{files}/{ratings}"
    data = files.read(ratings)
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        data = data.decode("latin-1").encode("utf-8")
    rows, broken = parse(data, ".csv", ["participant_id", "image_filename"], source, on_bad_row)
    columns = {
        "user_id": "participant_id",
        "image": "image_filename",
        "rating": "response" if "response" in rows.columns and "rating" not in rows.columns else "rating",
    }
    present = [column for column in DEMOGRAPHICS if column in rows.columns]
    raters = collect_raters(rows, "participant_id", DEMOGRAPHICS, source) if "participant_id" in rows.columns else None
    part = SourceTable(source, rows.drop(columns=present), columns, broken)
    return build_rated_images([part], source, files.subfolder("images"), RatingScale(0, 100), raters, on_bad_row)
