"""Read the choices of a blind test back, with the keys that name the arms."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pamela_rl.errors import DataError

OPTIONS = ("left", "right", "tie")


@dataclass(frozen=True)
class Choice:
    """One choice between two arms.

    Attributes:
        user_id: The user.
        prompt: Of both images.
        seed: Of both images.
        left: The arm on the left.
        right: The arm on the right.
        answer: ``left``, ``right`` or ``tie``.
    """

    user_id: str
    prompt: str
    seed: int
    left: str
    right: str
    answer: str

    @property
    def winner(self) -> str | None:
        """The preferred arm, or None for a tie."""
        return {"left": self.left, "right": self.right}.get(self.answer)


@dataclass(frozen=True)
class BlindTestChoices:
    """One user's choices.

    Attributes:
        user_id: The user.
        choices: Of pairs shown for the first time.
        repeated: First and second choice of each repeated pair with both choices.
        num_open: Pairs without a choice.
    """

    user_id: str
    choices: tuple[Choice, ...]
    repeated: tuple[tuple[Choice, Choice], ...]
    num_open: int


def choice_files(choices: Path | Sequence[Path]) -> list[Path]:
    """List the files that people saved: those named, and in folders all ``choices-*.json``.

    Raises:
        DataError: A folder has none, or the list is empty.
    """
    files: list[Path] = []
    for path in [choices] if isinstance(choices, Path) else choices:
        inside = sorted(path.glob("choices-*.json")) if path.is_dir() else [path]
        if not inside:
            raise DataError(f"there is no choices-*.json in {path}; put the files there that people saved.")
        files += inside
    if not files:
        raise DataError("choices is an empty list; name a folder or the files that people saved.")
    return files


def read_choices(files: Sequence[Path], keys: Path) -> list[BlindTestChoices]:
    """Read the files that users saved, one per user.

    Args:
        files: ``choices-<user>.json``, each from another page.
        keys: The folder of keys that ``write_page`` wrote.

    Raises:
        DataError: A file cannot be read, has no key, belongs to the same page as another file, or holds no choice or an
            invalid one. Names file and entry.
    """
    keys_by_page = {str(key["page"]): key for key in map(_read_key, sorted(keys.glob("*.json")))}
    if not keys_by_page:
        raise DataError(f"there are no keys in {keys}; give the folder in which the pages were made.")
    file_by_page: dict[str, Path] = {}
    results = []
    for file in files:
        content = _json(file)
        page = content.get("page") if isinstance(content, dict) else None
        if not isinstance(page, str) or page not in keys_by_page:
            raise DataError(
                f"{file}: page is {page!r}, and no key in {keys} is of that page; give a file that the page saved, and "
                "the folder in which the page was made."
            )
        if page in file_by_page:
            raise DataError(f"{file}: {file_by_page[page]} is of the same page; keep the newer of the two.")
        file_by_page[page] = file
        results.append(_parse_choices(file, content.get("choices"), keys_by_page[page]))
    return results


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check the path.") from error
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}); ask for the file as the page saved it.") from error


def _read_key(path: Path) -> dict[str, Any]:
    key = _json(path)
    if not isinstance(key, dict) or not {"page", "user_id", "pairs"} <= key.keys():
        raise DataError(f"{path} is not the key of a page; remove it, or make the pages again.")
    return key


def _parse_choices(file: Path, raw: Any, key: Mapping[str, Any]) -> BlindTestChoices:
    if not isinstance(raw, dict) or not raw:
        raise DataError(
            f"{file}: choices is {raw!r}; there is nothing to count: ask for the file as the page saved it."
        )
    pairs, user = key["pairs"], str(key["user_id"])
    for token, answer in raw.items():
        if token not in pairs:
            raise DataError(f"{file}: choices has {token!r}, a pair that its page does not show; remove the entry.")
        if answer not in OPTIONS:
            raise DataError(
                f"{file}: choices[{token!r}] is {answer!r}; answers are 'left', 'right' or 'tie': correct or remove it."
            )
    choices = {token: _parse_choice(user, pairs[token], answer) for token, answer in raw.items()}
    repeat_of = {token: str(pairs[token]["repeats"]) for token in raw if pairs[token]["repeats"] is not None}
    return BlindTestChoices(
        user,
        tuple(choice for token, choice in choices.items() if token not in repeat_of),
        tuple((choices[first], choices[second]) for second, first in repeat_of.items() if first in choices),
        len(pairs) - len(raw),
    )


def _parse_choice(user: str, pair: Mapping[str, Any], answer: str) -> Choice:
    return Choice(user, str(pair["prompt"]), int(pair["seed"]), str(pair["left"]), str(pair["right"]), answer)
