"""What people chose in a blind test, read back with the keys that say what they saw."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pamela_rl.errors import DataError

ANSWERS = ("left", "right", "tie")


@dataclass(frozen=True)
class Choice:
    """One answer.

    Attributes:
        user_id: Who chose.
        prompt: What both pictures were drawn for.
        seed: Of their noise.
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
        """The arm that was preferred, or None."""
        return {"left": self.left, "right": self.right}.get(self.answer)


@dataclass(frozen=True)
class Answers:
    """One person's answers.

    Attributes:
        user_id: The person.
        choices: Of pairs asked for the first time.
        repeated: The first answer and the second, of pairs asked twice and answered twice.
        num_open: Pairs without an answer.
    """

    user_id: str
    choices: tuple[Choice, ...]
    repeated: tuple[tuple[Choice, Choice], ...]
    num_open: int


def read_answers(files: Sequence[Path], keys: Path) -> list[Answers]:
    """Read the files that people saved, one a person.

    Args:
        files: ``choices-<person>.json``, each from another page.
        keys: The folder of keys that ``write_page`` wrote.

    Raises:
        DataError: A file cannot be read, belongs to no page whose key is here, or to the same page as another; it holds
            no choice, or one that is wrong. Names file and entry.
    """
    known = {str(key["page"]): key for key in map(_read_key, sorted(keys.glob("*.json")))}
    if not known:
        raise DataError(f"there are no keys in {keys}; give the folder in which the pages were made.")
    seen: dict[str, Path] = {}
    answers = []
    for file in files:
        content = _json(file)
        page = content.get("page") if isinstance(content, dict) else None
        if not isinstance(page, str) or page not in known:
            raise DataError(
                f"{file}: page is {page!r}, and no key in {keys} is of that page; give a file that the page saved, and "
                "the folder in which the page was made."
            )
        if page in seen:
            raise DataError(f"{file}: {seen[page]} is of the same page; keep the newer of the two.")
        seen[page] = file
        answers.append(_answers(file, content.get("choices"), known[page]))
    return answers


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


def _answers(file: Path, given: Any, key: Mapping[str, Any]) -> Answers:
    if not isinstance(given, dict) or not given:
        raise DataError(
            f"{file}: choices is {given!r}; there is nothing to count: ask for the file as the page saved it."
        )
    pairs, user = key["pairs"], str(key["user_id"])
    for token, answer in given.items():
        if token not in pairs:
            raise DataError(f"{file}: choices has {token!r}, a pair that its page does not show; remove the entry.")
        if answer not in ANSWERS:
            raise DataError(
                f"{file}: choices[{token!r}] is {answer!r}; answers are 'left', 'right' or 'tie': correct or remove it."
            )
    choices = {token: _choice(user, pairs[token], answer) for token, answer in given.items()}
    again = {token: str(pairs[token]["repeats"]) for token in given if pairs[token]["repeats"] is not None}
    return Answers(
        user,
        tuple(choice for token, choice in choices.items() if token not in again),
        tuple((choices[first], choices[second]) for second, first in again.items() if first in choices),
        len(pairs) - len(given),
    )


def _choice(user: str, pair: Mapping[str, Any], answer: str) -> Choice:
    return Choice(user, str(pair["prompt"]), int(pair["seed"]), str(pair["left"]), str(pair["right"]), answer)
