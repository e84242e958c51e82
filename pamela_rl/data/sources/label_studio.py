"""Label Studio's exports JSON, JSON-MIN, CSV and TSV: ratings by stars, choices of a label, and choices between two images.

From Label Studio's documentation of its task format and from the source of its exporter (label-studio-sdk 2.1): JSON is a
list of tasks ``{"data": {…}, "annotations": [{"completed_by": …, "was_cancelled": …, "result": [{"from_name", "to_name",
"type": "rating", "value": {"rating": 4}}]}]}``, older ones with ``completions`` for ``annotations``; the types read here
are ``rating``, ``choices``, ``number`` and ``pairwise`` (``{"selected": "left"}``). JSON-MIN is a list of annotations, each
the task's data beside the answers by their names, with ``annotator``, ``annotation_id``, ``created_at``, ``updated_at`` and
``lead_time``; an answer is a label, or a list of values such as ``[{"rating": 4}]``. CSV and TSV have the same as columns, with such lists as
JSON in the cells.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pamela_rl.data.files import read_file
from pamela_rl.data.settings import SourceSettings
from pamela_rl.data.sources.annotations import Annotations, is_address, objects
from pamela_rl.data.sources.exports import Source, first_object, header, only_table, read_annotations, read_json_list
from pamela_rl.errors import DataError

REMEDY = "in Label Studio, ask for a Rating, Choices or Pairwise and export as JSON"
VALUES = {"rating": "rating", "choices": "choices", "number": "number", "pairwise": "selected"}  # by type of control
MIN_FIELDS = ("annotator", "annotation_id", "created_at", "updated_at", "lead_time")


def recognises(path: Path) -> bool:
    """Return whether the path is one of Label Studio's exports, or a folder with one."""
    entry = first_object(path) or dict.fromkeys(header(path))
    is_full = isinstance(entry.get("data"), dict) and bool({"annotations", "completions"} & set(entry))
    return is_full or {"annotator", "annotation_id", "lead_time"} <= set(entry)


def read(path: Path, settings: SourceSettings) -> Source:
    """Read an export. The images are found by name beside it, or in ``settings.images``.

    Cancelled annotations and tasks without an answer are left out. Users are e-mail addresses where the export has them,
    and else Label Studio's numbers.

    Raises:
        DataError: The file is broken, or holds no ratings of images and no choices between two images.
    """
    file = only_table(path, (".json", ".csv", ".tsv")) or path
    if file.suffix.lower() != ".json":
        return read_annotations(_min(str(file), _lines(file)), file, settings)
    tasks = read_json_list(file, "export it from Label Studio again")
    is_full = any("annotations" in task or "completions" in task for task in tasks)
    annotations = _full(str(file), tasks) if is_full else _min(str(file), tasks)
    return read_annotations(annotations, file, settings)


def _full(source: str, tasks: list[dict[str, Any]]) -> Annotations:
    rows: list[dict[str, Any]] = []
    questions: dict[str, None] = {}
    shown: dict[str, list[str]] = {}
    kinds: dict[str, None] = {}
    for number, task in enumerate(tasks, 1):
        data = task.get("data")
        if not isinstance(data, dict):
            raise DataError(f"{source}, task {number}: it has no object 'data'; {REMEDY}.")
        for annotation in objects(task.get("annotations") or task.get("completions")):
            if annotation.get("was_cancelled") or annotation.get("skipped"):
                continue
            answers = {}
            for name, about, value in _answers(annotation):
                answers[name] = value
                shown[name] = [part.strip() for part in about.split(",")]
            questions |= dict.fromkeys(answers)
            kinds |= dict.fromkeys(str(result.get("type")) for result in objects(annotation.get("result")))
            if answers:
                rows.append({**data, **answers, "user_id": _user(annotation.get("completed_by"))})
    if not rows:
        seen = f"answers of the kind {', '.join(map(repr, kinds))}" if kinds else "no answers"
        raise DataError(
            f"{source} holds {seen}, and those of the kind {', '.join(map(repr, VALUES))} are read; {REMEDY}."
        )
    return Annotations(source, rows, tuple(questions), REMEDY, shown)


def _answers(annotation: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Yield the name of each question, the objects it is about, and its answer."""
    for result in objects(annotation.get("result")):
        kind = VALUES.get(str(result.get("type")))
        value = result.get("value")
        if kind and isinstance(value, dict) and kind in value:
            yield str(result.get("from_name")), str(result.get("to_name", "")), _single(value[kind])


def _min(source: str, entries: list[dict[str, Any]]) -> Annotations:
    rows: list[dict[str, Any]] = []
    structured: dict[str, None] = {}
    for entry in entries:
        row = {name: value for name, value in entry.items() if name not in MIN_FIELDS}
        for name, value in row.items():
            part = value[0] if isinstance(value, list) and len(value) == 1 else value
            kind = next((kind for kind in VALUES.values() if isinstance(part, dict) and kind in part), None)
            if kind:
                row[name] = _single(part[kind])
                structured[name] = None
        rows.append(row | {"user_id": _user(entry.get("annotator"))})
    # a choice of one label is a plain text, like what the task shows: without a better question, any text can be one
    questions = structured or dict.fromkeys(
        name
        for row in rows
        for name, value in row.items()
        if isinstance(value, str) and not is_address(value) and name != "user_id"
    )
    return Annotations(source, rows, tuple(questions), REMEDY)


def _lines(file: Path) -> list[dict[str, Any]]:
    """Return the rows of CSV or TSV as the entries of JSON-MIN."""
    rows, _ = read_file(file)
    return [
        {str(name): _cell(cell) for name, cell in row.items() if isinstance(cell, str)}
        for row in rows.to_dict("records")
    ]


def _cell(text: str) -> Any:
    try:
        return json.loads(text) if text.startswith(("[{", "{")) else text
    except ValueError:
        return text


def _single(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    return value[0] if len(value) == 1 else json.dumps(value)


def _user(completed_by: Any) -> str | None:
    if isinstance(completed_by, dict):
        completed_by = completed_by.get("email") or completed_by.get("id")
    return None if completed_by is None else str(completed_by)
