"""Pictures that people send: decoded in a limited process, shrunk, and written anew without what else was in the file."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from PIL import Image

from pamela_rl.data.decoding import decode
from pamela_rl.studio.encoding import Prepared, prepare
from pamela_rl.studio.limited import Gone, LimitedProcess, answer_all
from pamela_rl.studio.web.strings import say

if TYPE_CHECKING:  # the process that decodes needs none of it
    from pamela_rl.studio.settings import UploadLimits

FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "TIFF")
MEGABYTES = 2048  # of memory for decoding
_ROOM = threading.Semaphore(2)  # decoders at once


def decoded(files: Iterable[tuple[str, bytes]], limits: UploadLimits) -> Iterator[tuple[str, Prepared | str]]:
    """Yield each file's name with its picture, or with why it is none.

    Args:
        files: Names, which are only repeated, and contents.
        limits: Of pixels.
    """
    wanted = {"pixels": limits.megapixels * 10**6, "longest_side": limits.longest_side}
    with _ROOM, LimitedProcess("pamela_rl.studio.uploads") as decoder:
        for name, data in files:
            if not data:
                yield name, say("errors.empty_file")
                continue
            try:
                head, encoded = decoder.ask(wanted, data)
            except Gone:
                yield name, say("errors.image_too_large")
                continue
            yield name, head["why"] if "why" in head else Prepared.from_parts(head, encoded)


def _decode(request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
    try:
        made = prepare(decode(io.BytesIO(data), FORMATS, request["pixels"]), request["longest_side"])
    except MemoryError:
        return {"why": say("errors.image_too_large")}, b""
    except Exception as error:  # whatever a decoder stumbles over is the file's fault
        return {"why": " ".join(str(error).split())[:200] or say("errors.broken_file")}, b""
    return made.parts()


if __name__ == "__main__":
    Image.init()
    answer_all(_decode, MEGABYTES)
