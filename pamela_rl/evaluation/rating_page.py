"""A page to rate the images of a folder by keys; it opens from disk, beside them, and fetches nothing else."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pamela_rl.evaluation.rating_sheet import SHEET, RatingSheet
from pamela_rl.evaluation.standalone_page import standalone_page
from pamela_rl.storage import write_text

PAGE = "rate.html"
_HEAD = 2**16  # bytes of an image file that tell it from others

_BODY = """<noscript><p>This page asks with JavaScript; open it in a browser that runs it.</p></noscript>
<main>
<section id="start"><h1>How much do you like each image?</h1>
<p id="count"></p>
<p>Rate by your own taste; there is no right answer. Use the whole scale, and skip what you cannot rate.</p>
<div class="row"><label for="scale">Scale</label> <select id="scale"></select></div>
<p id="fixed" class="note" hidden>Ratings given so far are on this scale. Clear them to choose another.</p>
<p id="unkept" hidden>This browser does not remember your ratings: save them before you close the page.</p>
<div class="row"><button id="begin" class="main">Begin</button></div></section>
<section id="ask" hidden aria-label="Rate this image">
<p id="place"></p><progress id="progress" aria-labelledby="place"></progress>
<h1 id="prompt" dir="auto"></h1>
<p id="spoken" class="spoken" role="status"></p>
<div id="frame"><img id="shown" alt=""><p id="broken" hidden>This browser cannot show the image; skip it.</p></div>
<div id="ratings" role="group" aria-label="Rating"></div>
<div class="row"><button id="back" aria-keyshortcuts="ArrowLeft Backspace">← Back</button>
<span id="file" class="note"></span>
<button id="skip" aria-keyshortcuts="ArrowRight">Skip →</button></div>
<p id="keys" class="keys"></p>
</section>
<section id="end" hidden><h1 id="thanks" tabindex="-1"></h1>
<p id="todo"></p>
<ol><li>Save the table below.</li>
<li>Put it into the folder of the images, in the place of the one that is there: <code id="target"></code></li>
<li>Fit the reward: <code id="command"></code></li></ol>
<div class="row"><button id="again">← Back</button><button id="skipped">Rate the skipped images</button></div></section>
<footer><div class="row">
<button id="save">Save ratings.csv</button>
<button id="open">Load a table…</button><input id="table" type="file" accept=".csv,text/csv" hidden aria-label="Table of ratings">
<button id="clear">Clear all ratings</button></div>
<p id="saved" role="status"></p></footer>
</main>"""


def write_rating_page(folder: Path, sheet: RatingSheet) -> Path:
    """Write ``rate.html`` for the images of a table.

    The page refers to the images by relative paths. Rows whose image is not inside the folder stay in the table that
    the page saves, and are not asked about. The browser remembers ratings by file name and content.

    Args:
        folder: Of the images; the page is written into it.
        sheet: Its columns ``image``, ``rating`` and, where there is one, ``prompt`` are used; others are kept.

    Returns:
        The page's path.
    """
    page = folder / PAGE
    write_text(page, standalone_page("Rate images", _BODY, "rating_page", _data(folder, sheet), images="'self' file:"))
    return page


def fit_command(folder: Path) -> str:
    """Return the command that fits a reward to the folder's ratings."""
    return f"pamela fit --source.path {shlex.quote(str(folder))} --output_dir outputs/my-reward"


def _data(folder: Path, sheet: RatingSheet) -> dict[str, Any]:
    shown, seen = [], Counter[str]()
    for number, image in enumerate(sheet.values("image")):
        path = os.path.normpath(image.replace("\\", "/"))
        seen[path] += 1
        if not path.startswith(("/", "..")) and (folder / path).is_file():
            shown.append([number, quote(os.fsencode(path)), _token(folder / path, path, seen[path])])
    return {
        "shelf": "ratings-" + hashlib.sha256(str(folder.resolve()).encode("utf-8", "surrogatepass")).hexdigest()[:16],
        "columns": sheet.columns,
        "delimiter": sheet.delimiter,
        "rows": sheet.rows,
        "places": {column: sheet.place(column) for column in ("image", "prompt", "rating")},
        "shown": shown,
        "target": str(folder / SHEET),
        "command": fit_command(folder),
    }


def _token(file: Path, path: str, occurrence: int) -> str:
    """Name an image by its path and content: an image drawn anew under the same name has other ratings."""
    with file.open("rb") as stream:
        head = stream.read(_HEAD)
    text = f"{path}\n{occurrence}\n{file.stat().st_size}\n"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass") + head).hexdigest()[:16]
