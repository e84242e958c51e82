"""PARA (CVPR 2022): 31,220 photographs, rated by 438 people, about 25 each, from 1 to 5 in halves.

The layout is that of the dataset's README: ``annotation/PARA-Images.csv``, one row per rating;
``annotation/PARA-UserInfo.csv``, one row per person; ``imgs/session1/iaa_pub1_.jpg`` and so on. The column names are
those that public loaders use: ``sessionId, imageName, userId, aestheticScore`` (and
``qualityScore, compositionScore, colorScore, dofScore, contentScore, lightScore, contentPreference,
willingnessToShare``), and ``userId, age`` (an interval)``, gender, EducationalLevel, artExperience,
photographyExperience, personality-E, -A, -N, -O, -C``. One loader drops rows without scores, so there may be some:
``on_bad_row="skip"`` skips them. The data itself was not available for tests. It has no split by person; the published
test list is for mean scores.
"""

from __future__ import annotations

from pathlib import Path

from pamela_rl.data.checks import OnBadRow
from pamela_rl.data.files import parse
from pamela_rl.data.images import find_files
from pamela_rl.data.ratings import RatingScale
from pamela_rl.data.sources.rated_images import RatedImages, SourceTable, build_rated_images, collect_raters
from pamela_rl.errors import DataError

RATINGS, RATERS = "annotation/PARA-Images.csv", "annotation/PARA-UserInfo.csv"
DEMOGRAPHICS = {
    "age": "age",
    "gender": "gender",
    "EducationalLevel": "education",
    "artExperience": "art_experience",
    "photographyExperience": "photography_experience",
    **{f"personality-{trait}": f"personality_{trait.lower()}" for trait in "EANOC"},
}


def read_para(path: str | Path, *, score: str = "aestheticScore", on_bad_row: OnBadRow = "stop") -> RatedImages:
    """Read PARA from its folder or an archive of it; the other scores are kept as columns.

    Args:
        path: Folder or archive with ``annotation`` and ``imgs``.
        score: The column to use as the rating.
        on_bad_row: "stop" at the first bad row, or "skip" bad rows and report them.

    Raises:
        DataError: The data cannot be found, or a row is wrong; names file, row, value and remedy.
    """
    files = find_files(path, RATINGS)
    source = f"{files}/{RATINGS}"
    rows, broken = parse(files.read(RATINGS), ".csv", ["sessionId", "imageName", "userId"], source, on_bad_row)
    if "sessionId" in rows.columns and "imageName" in rows.columns:
        rows["imageName"] = rows["sessionId"] + "/" + rows["imageName"]  # a name may occur in two sessions
    raters = None
    if files.has_file(RATERS):
        table, _ = parse(files.read(RATERS), ".csv", ["userId"], f"{files}/{RATERS}", content="raters")
        if "userId" not in table.columns:
            raise DataError(f"{files}/{RATERS} has no column 'userId'; download it again.")
        raters = collect_raters(table, "userId", DEMOGRAPHICS, f"{files}/{RATERS}")
    part = SourceTable(source, rows, {"user_id": "userId", "image": "imageName", "rating": score}, broken)
    return build_rated_images([part], source, files.subfolder("imgs"), RatingScale(1, 5), raters, on_bad_row)
