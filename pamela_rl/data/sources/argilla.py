"""Argilla's exports: records as JSON, and as datasets with one column for each field and question.

From the source of argilla 2.8: ``records.json`` of ``Dataset.to_disk`` and ``records.to_json`` are lists of ``{"id", "fields":
{"image": "data:image/…"}, "metadata", "responses": {"rating": [{"value": 4, "user_id": "…"}]}, "suggestions", …}``;
``records.to_datasets`` has the fields as columns, and ``rating.responses``, ``rating.responses.users`` and
``rating.responses.status`` with a list in each row. In version 1, a question was a column with a list of ``{"user_id",
"value", "status"}``, and records had a list of ``{"user_id", "values": {"rating": {"value": 4}}, "status"}``. Answers that
were discarded, or are drafts, are left out, and so are suggestions, which are a model's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pamela_rl.data.settings import SourceSettings
from pamela_rl.data.sources.annotations import Annotations, fields_of, objects
from pamela_rl.data.sources.exports import Source, first_object, only_table, read_annotations, read_json_list

REMEDY = "in Argilla, ask a rating or label question and export with dataset.records.to_json"
RESPONSES = ".responses"
NESTED = ("fields", "metadata", "responses", "suggestions", "vectors")
KEPT = (None, "submitted")  # statuses; None is not told

Answer = tuple[str, str, Any]  # question, user, value


def recognises(path: Path) -> bool:
    """Return whether the path is a JSON export of Argilla, or a folder with one."""
    entry = first_object(path)
    return entry is not None and (is_export(entry) or (isinstance(entry.get("fields"), dict) and "responses" in entry))


def is_export(names: Iterable[str]) -> bool:
    """Return whether columns are those of ``records.to_datasets``."""
    names = list(names)
    return any(name.endswith(RESPONSES) and f"{name}.users" in names for name in names)


def read(path: Path, settings: SourceSettings) -> Source:
    """Read an export. Images are in it, or are found by name beside it or in ``settings.images``.

    Raises:
        DataError: The file is broken, or holds no ratings of images and no choices between two images.
    """
    file = only_table(path, (".json",)) or path
    return read_annotations(annotations_of(str(file), read_json_list(file, REMEDY)), file, settings)


def annotations_of(
    source: str, records: Iterable[dict[str, Any]], fields: tuple[str, ...] | None = None
) -> Annotations:
    """Return the answers in records, in a sheet for each record and user.

    Args:
        source: The file, for messages.
        records: As exported, nested or flat.
        fields: Those of images; None finds them by what they hold.
    """
    rows: list[dict[str, Any]] = []
    questions: dict[str, None] = {}
    for record in records:
        answers = list(_answers(record))
        shown = {
            name: value
            for name, value in {
                **record,
                **fields_of(record.get("fields")),
                **fields_of(record.get("metadata")),
            }.items()
            if name not in NESTED and not _is_flat(name) and not _is_listed(value)
        }
        by_user: dict[str, dict[str, Any]] = {}
        for question, user, value in answers:
            questions[question] = None
            by_user.setdefault(user, {})[question] = value
        rows += [{**shown, **given, "user_id": user} for user, given in by_user.items()]
    return Annotations(source, rows, tuple(questions), REMEDY, fields=fields)


def _answers(record: dict[str, Any]) -> Iterator[Answer]:
    responses = record.get("responses")
    if isinstance(responses, dict):
        for question, given in responses.items():
            yield from _listed(question, given)
    for response in objects(responses):
        if response.get("status") in KEPT:
            for question, given in fields_of(response.get("values")).items():
                yield question, str(response.get("user_id")), fields_of(given).get("value")
    for name, value in record.items():
        if name.endswith(RESPONSES):
            values = _list(value)
            users = _list(record.get(f"{name}.users"))
            statuses = _list(record.get(f"{name}.status")) or [None] * len(values)
            for answer, user, status in zip(values, users, statuses):
                if status in KEPT:
                    yield name.removesuffix(RESPONSES), str(user), answer
        elif name not in NESTED and not _is_flat(name) and _is_listed(value):
            yield from _listed(name, value)


def _listed(question: str, given: Any) -> Iterator[Answer]:
    """Yield the answers in a list of objects, or in an object of lists."""
    if isinstance(given, dict):
        given = [dict(zip(given, values)) for values in zip(*map(_list, given.values()))]
    for response in objects(_list(given)):
        if response.get("status") in KEPT:
            yield question, str(response.get("user_id")), response.get("value")


def _is_flat(name: str) -> bool:
    """Return whether a column belongs to a question of a flat record, or is a suggestion."""
    return RESPONSES in name or ".suggestion" in name or name.endswith(("-suggestion", "-suggestion-metadata"))


def _is_listed(value: Any) -> bool:
    """Return whether a cell is a list of answers of version 1."""
    first = value if isinstance(value, dict) else next(iter(_list(value)), None)
    return isinstance(first, dict) and {"user_id", "value"} <= set(first)


def _list(value: Any) -> list[Any]:
    return [] if value is None or isinstance(value, str) or not hasattr(value, "__iter__") else list(value)
