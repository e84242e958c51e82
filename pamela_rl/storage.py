"""Folders that are either whole or absent, and names that cannot leave them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from pamela_rl.errors import ConfigError, StorageError

if TYPE_CHECKING:
    from torch import Tensor

# The models shipped in the package, by the names that configs give them; this module imports no torch.
WORLD_ASSETS = Path(__file__).parent / "world" / "assets"
WORLD_ENCODER = WORLD_ASSETS / "open_clip"
SHIPPED_PIPELINES = {"world": WORLD_ASSETS / "pipeline", "flow": WORLD_ASSETS / "flow_pipeline"}

_PLAIN = re.compile(r"[a-z0-9][a-z0-9_-]{0,47}")


def folder_name(user_id: str) -> str:
    """Name a person's folder: plain ids as they are, any other as a readable stem and a hash of the whole id.

    The result holds only ``a-z 0-9 _ -`` and no dot, so it is a single path part, a legal adapter name and the same
    on file systems that ignore case; different ids give different names.

    Raises:
        ConfigError: The id is empty.
    """
    if not user_id.strip():
        raise ConfigError(f"the user id is {user_id!r}; give every person an id of at least one visible character.")
    if _PLAIN.fullmatch(user_id) and not re.search(r"-[0-9a-f]{12}$", user_id):
        return user_id
    stem = re.sub(r"[^a-z0-9_]+", "-", user_id.lower()).strip("-_")[:32] or "user"
    digest = hashlib.sha256(user_id.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{stem}-{digest}"


def ensure_writable(folder: Path) -> Path:
    """Make ``folder`` and return it.

    Raises:
        ConfigError: It cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".write-test-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(
            f"cannot write to the output folder {folder} ({error.strerror}); "
            "choose another with --output_dir or change its permissions."
        ) from error
    return folder


def write_text(path: Path, text: str) -> None:
    """Write a text file whole: readers see the old content or the new, never a part."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file whole, which whoever may read the files beside it may read, too.

    Args:
        path: Of the file; an older one is replaced.
        tensors: On any device, contiguous.
        header: Text to put into the file's header.
    """
    from safetensors.torch import save_file

    partial = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.partial")  # others may write it, too
    try:
        partial.touch()
        mode = partial.stat().st_mode
        save_file(dict(tensors), str(partial), metadata=None if header is None else dict(header))
        partial.chmod(mode)  # safetensors leaves it to its owner alone
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def make_readable(folder: Path) -> None:
    """Let whoever may read a folder read the files in it: libraries write safetensors for their owner alone."""
    readers = folder.stat().st_mode & 0o444
    for file in folder.rglob("*"):
        if file.is_file():
            file.chmod(file.stat().st_mode | readers)


@contextmanager
def writing(what: str, path: Path) -> Iterator[None]:
    """Turn a failure to write in the block into a sentence.

    Args:
        what: What is written, e.g. "the checkpoint".
        path: Where.

    Raises:
        StorageError: The disk is full, the folder closed, or the like.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:  # safetensors has an error of its own for a full disk
        raise StorageError(
            f"{what} cannot be written to {path} ({error}). What was saved before is whole: free some space or mend the "
            "folder, then start the same command again; it goes on from there."
        ) from error


@contextmanager
def publish(folder: Path) -> Iterator[Path]:
    """Give an empty folder to fill, and move it to ``folder`` when the block ends without an error.

    An older ``folder`` stays until the new one is complete. If the block raises, the new one is removed.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.partial")
    previous = folder.with_name(f".{folder.name}.previous")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        make_readable(partial)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    if folder.exists():
        shutil.rmtree(previous, ignore_errors=True)
        os.replace(folder, previous)
    os.replace(partial, folder)
    shutil.rmtree(previous, ignore_errors=True)


def recover(folder: Path) -> Path:
    """Undo a ``publish`` that was killed between its two renames, and return ``folder``."""
    previous = folder.with_name(f".{folder.name}.previous")
    if previous.exists() and not folder.exists():
        os.replace(previous, folder)
    return folder


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read a run's ``metrics.jsonl``; a last line cut off by a kill is passed over."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows
