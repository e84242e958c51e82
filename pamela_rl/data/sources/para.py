"""PARA (CVPR 2022): 31,220 photographs, rated by 438 people, about 25 each, from 1 to 5 in halves.

The layout is that of the dataset's own README, found in a public repository: ``annotation/PARA-Images.csv``, a rating a
row; ``annotation/PARA-UserInfo.csv``, a person a row; ``imgs/session1/iaa_pub1_.jpg`` and so on. The README counts the
columns; their names are those that public loaders ask for: ``sessionId, imageName, userId, aestheticScore`` (and
``qualityScore, compositionScore, colorScore, dofScore, contentScore, lightScore, contentPreference,
willingnessToShare``), and ``userId, age`` (an interval)``, gender, EducationalLevel, artExperience,
photographyExperience, personality-E, -A, -N, -O, -C``. One loader drops rows without scores, so there may be some:
``on_bad_row="skip"`` leaves them out. The data itself could not be had here. It has no split by person; the published
test list is for mean scores.
"""

from __future__ import annotations

from pathlib import Path

from pamela_rl.data.checks import OnBadRow
from pamela_rl.data.files import parse
from pamela_rl.data.images import find_files
from pamela_rl.data.ratings import RatingScale
from pamela_rl.data.sources.rated_images import Part, RatedImages, assemble, raters_of
from pamela_rl.errors import DataError

RATINGS, PEOPLE = "annotation/PARA-Images.csv", "annotation/PARA-UserInfo.csv"
DEMOGRAPHICS = {
    "age": "age",
    "gender": "gender",
    "EducationalLevel": "education",
    "artExperience": "art_experience",
    "photographyExperience": "photography_experience",
    **{f"personality-{trait}": f"personality_{trait.lower()}" for trait in "EANOC"},
}


def read_para(path: str | Path, *, score: str = "aestheticScore", on_bad_row: OnBadRow = "stop") -> RatedImages:
    """Read PARA from its folder or an archive of it; the other scores stay columns.

    Args:
        path: What holds ``annotation`` and ``imgs``.
        score: The column that is the rating.
        on_bad_row: "stop" at the first bad row, or "skip" all of them and tell which.

    Raises:
        DataError: The data cannot be found, or a row is wrong; names file, row, value and remedy.
    """
    files = find_files(path, RATINGS)
    source = f"{files}/{RATINGS}"
    rows, broken = parse(files.read(RATINGS), ".csv", ["sessionId", "imageName", "userId"], source, on_bad_row)
    if "sessionId" in rows.columns and "imageName" in rows.columns:
        rows["imageName"] = rows["sessionId"] + "/" + rows["imageName"]  # the same name may stand in two sessions
    raters = None
    if files.has(PEOPLE):
        people, _ = parse(files.read(PEOPLE), ".csv", ["userId"], f"{files}/{PEOPLE}", content="raters")
        if "userId" not in people.columns:
            raise DataError(f"{files}/{PEOPLE} has no column 'userId'; download it again.")
        raters = raters_of(people, "userId", DEMOGRAPHICS, f"{files}/{PEOPLE}")
    part = Part(source, rows, {"user_id": "userId", "image": "imageName", "rating": score}, broken)
    return assemble([part], source, files.within("imgs"), RatingScale(1, 5), raters, on_bad_row)
