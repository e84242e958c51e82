"""Pages that open from disk: style, script and data are inside, and a security policy forbids to fetch anything else."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent


def standalone_page(title: str, body: str, name: str, data: Any, *, images: str) -> str:
    """Return the HTML of a page.

    Args:
        title: Of the window, as plain text.
        body: HTML.
        name: Of its own style and script, e.g. "blind_page" for ``blind_page.css`` and ``blind_page.js``; they come
            after ``page.css`` and ``page.js``, which all pages share.
        data: JSON, which the script reads from the element with the id "data".
        images: From where the page may load images, as a Content-Security-Policy writes it, e.g. "data:".
    """
    style, script = (
        "".join((_FOLDER / f"{part}.{kind}").read_text(encoding="utf-8") for part in ("page", name))
        for kind in ("css", "js")
    )
    text = json.dumps(data).translate({ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&"})
    policy = (
        f"default-src 'none'; img-src {images}; style-src {_csp_hash(style)}; script-src {_csp_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{html.escape(policy)}">
<title>{html.escape(title)}</title><style>{style}</style></head><body>
{body}
<script type="application/json" id="data">{text}</script><script>{script}</script></body></html>
"""


def _csp_hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
