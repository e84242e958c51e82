"""The page of a blind test: one user chooses between pairs of images; it opens from disk and fetches nothing."""

from __future__ import annotations

import base64
import io
import json
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pamela_rl.errors import DataError
from pamela_rl.evaluation.blind_pairs import Pair
from pamela_rl.evaluation.standalone_page import standalone_page
from pamela_rl.storage import folder_name, write_text

_TITLE = "Which picture do you like better?"
_LARGE = 256  # pixels; larger images are JPEG of quality 95, or a page of 60 pairs would take 60 MB

_BODY = """<noscript><p>This page asks with JavaScript; open it in a browser that runs it.</p></noscript>
<main>
<section id="start"><h1>Which picture do you like better?</h1>
<p>You will see two pictures at a time, made for the same words. Choose the one you like better; there is no right
answer. Where you see no difference, say so. A few pairs come twice.</p>
<p id="unkept" hidden>This browser does not remember your choices: save them before you close the page.</p>
<button id="begin" class="main">Begin</button></section>
<section id="ask" hidden>
<p id="place"></p><progress id="progress" aria-labelledby="place"></progress>
<h1 id="prompt"></h1>
<p id="spoken" class="spoken" role="status"></p>
<div id="pair">
<button class="picture" data-choice="left" aria-keyshortcuts="ArrowLeft"><img alt=""><span>← Left</span></button>
<button class="picture" data-choice="right" aria-keyshortcuts="ArrowRight"><img alt=""><span>Right →</span></button>
</div>
<div class="row"><button id="back" aria-keyshortcuts="Backspace">Back</button>
<button data-choice="tie" class="tie" aria-keyshortcuts="ArrowDown">No difference</button></div>
<p class="keys">Keys: ← left, → right, ↓ no difference, Backspace goes back.</p>
</section>
<section id="end" hidden><h1 id="thanks" tabindex="-1">Thank you, that was the last pair.</h1>
<p>Save your choices and send the file <code id="file"></code> to whoever gave you this page.</p>
<div class="row"><button id="again">Back</button></div></section>
<footer><button id="save">Save my choices</button> <span id="saved" role="status"></span></footer>
</main>"""


def write_page(folder: Path, user_id: str, pairs: Sequence[Pair]) -> Path:
    """Write one user's page and its key.

    The page holds images, prompts and opaque tokens, nothing else; its security policy forbids loading anything.
    The key maps tokens to arms; it stays with the experimenter.

    Args:
        folder: ``pages/<user>.html`` and ``keys/<user>.json`` are written here.
        user_id: The user.
        pairs: In the order in which they are shown.

    Returns:
        The page's path.

    Raises:
        DataError: A picture cannot be read.
    """
    tokens = [secrets.token_hex(8) for _ in pairs]
    page_id, name = secrets.token_hex(8), folder_name(user_id)
    for kind in ("pages", "keys"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    key = {"page": page_id, "user_id": user_id, "pairs": {t: _key_entry(p, tokens) for t, p in zip(tokens, pairs)}}
    page = folder / "pages" / f"{name}.html"
    data = {"page": page_id, "name": name, **_page_data(pairs, tokens)}
    text = standalone_page(_TITLE, _BODY, "blind_page", data, images="data:")
    write_text(folder / "keys" / f"{name}.json", json.dumps(key, indent=1) + "\n")
    write_text(page, text)
    return page


def _key_entry(pair: Pair, tokens: Sequence[str]) -> dict[str, Any]:
    repeats = None if pair.repeats is None else tokens[pair.repeats]
    facts = {"prompt": pair.left.prompt, "seed": pair.left.seed, "left": pair.left.arm, "right": pair.right.arm}
    return {**facts, "repeats": repeats}


def _page_data(pairs: Sequence[Pair], tokens: Sequence[str]) -> dict[str, Any]:
    """Return each image once, in random order, and pairs as indices into that list."""
    files = sorted({image.file for pair in pairs for image in (pair.left, pair.right)})
    secrets.SystemRandom().shuffle(files)
    index = {file: number for number, file in enumerate(files)}
    entries = [[token, p.left.prompt, index[p.left.file], index[p.right.file]] for token, p in zip(tokens, pairs)]
    return {"images": [_data_uri(file) for file in files], "pairs": entries}


def _data_uri(file: Path) -> str:
    """Re-encode an image from its pixels alone: other data in its file might name the arm."""
    try:
        with Image.open(file) as image:
            pixels = Image.fromarray(np.asarray(image.convert("RGB")))
    except OSError as error:
        raise DataError(f"{file} is not a picture that can be read ({error}); make the comparison again.") from error
    buffer, kind = io.BytesIO(), "png" if max(pixels.size) <= _LARGE else "jpeg"
    pixels.save(buffer, format=kind, **({"optimize": True} if kind == "png" else {"quality": 95, "subsampling": 0}))
    return f"data:image/{kind};base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
