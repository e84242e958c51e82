"""What can be seen of a studio from outside: a log of JSON lines, counts and times for Prometheus, and whether it is well."""

from __future__ import annotations

import json
import logging
import threading
from collections import Counter, defaultdict
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from sqlalchemy import func, select, text

from pamela_rl.storage import writing
from pamela_rl.studio.database.opening import Database
from pamela_rl.studio.database.schema import STATES, Answer, Job, Worker, now

LOG = "studio.log.jsonl"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.4, 0.5, 1.0, 2.5, 10.0)  # upper ends of the histogram's buckets

logger = logging.getLogger("pamela_rl.studio")


class JsonLines(logging.Formatter):
    """One JSON object a line: whatever is logged stays a value."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; what ``extra={"about": …}`` gave is in it."""
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "about", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def log_to(folder: Path) -> None:
    """Write the log into the studio's folder: at most 40 MB, the oldest goes first.

    Raises:
        StorageError: The folder cannot be written to.
    """
    with writing("the log", folder / LOG):
        handler = RotatingFileHandler(folder / LOG, maxBytes=10_000_000, backupCount=3, encoding="utf-8", delay=False)
    handler.setFormatter(JsonLines())
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


class Meter:
    """Counts requests and how long they took, since the server was started."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._buckets: Counter[tuple[str, float]] = Counter()
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request.

        Args:
            method: Of HTTP.
            route: Its pattern, e.g. "/pictures/{id}", so that there are few.
            status: Of the answer.
            seconds: It took.
        """
        name = f"{method} {route}"
        with self._lock:
            self._requests[method, route, status] += 1
            self._seconds[name] += seconds
            for end in SECONDS:
                self._buckets[name, end] += seconds <= end

    def lines(self) -> list[str]:
        """Return the counts as Prometheus reads them."""
        with self._lock:
            requests, buckets, total = self._requests.copy(), self._buckets.copy(), self._seconds.copy()
        lines = ["# TYPE studio_requests_total counter"]
        for (method, route, status), number in sorted(requests.items()):
            lines.append(f"studio_requests_total{_labels(method=method, route=route, status=status)} {number}")
        lines.append("# TYPE studio_errors_total counter")
        errors = sum(number for (_, _, status), number in requests.items() if status >= 500)
        lines.append(f"studio_errors_total {errors}")
        lines.append("# TYPE studio_request_seconds histogram")
        for name, seconds in sorted(total.items()):
            number = sum(count for (method, route, _), count in requests.items() if f"{method} {route}" == name)
            for end in SECONDS:
                lines.append(f"studio_request_seconds_bucket{_labels(request=name, le=end)} {buckets[name, end]}")
            lines.append(f"studio_request_seconds_bucket{_labels(request=name, le='+Inf')} {number}")
            lines.append(f"studio_request_seconds_sum{_labels(request=name)} {seconds:.6f}")
            lines.append(f"studio_request_seconds_count{_labels(request=name)} {number}")
        return lines


def metrics(database: Database, meter: Meter) -> str:
    """Return everything that is counted, as Prometheus reads it."""
    with database.session() as session:
        answers = session.execute(select(Answer.said, func.count()).group_by(Answer.said)).all()
        jobs = dict(session.execute(select(Job.state, func.count()).group_by(Job.state)).all())
        seen = session.scalar(select(func.max(Worker.seen)))
    lines = ["# TYPE studio_answers gauge"]
    lines += [f"studio_answers{_labels(said=said)} {number}" for said, number in sorted(answers)]
    lines.append("# TYPE studio_jobs gauge")
    lines += [f"studio_jobs{_labels(state=state)} {jobs.get(state, 0)}" for state in STATES]
    if seen is not None:
        lines += ["# TYPE studio_worker_seen_seconds gauge", f"studio_worker_seen_seconds {_since(seen):.1f}"]
    return "\n".join([*lines, *meter.lines()]) + "\n"


def health(database: Database) -> dict[str, Any]:
    """Return whether the database answers, and how long ago a worker said that it is alive; None is never."""
    try:
        with database.session() as session:
            session.execute(text("SELECT 1"))
            seen = session.scalar(select(func.max(Worker.seen)))
    except Exception:
        logger.exception("database unreachable")
        return {"status": "ill", "database": "unreachable", "worker": None}
    return {"status": "ok", "database": "ok", "worker": None if seen is None else round(_since(seen), 1)}


def _since(seen: datetime) -> float:
    return max(0.0, (now() - seen).total_seconds())


def _labels(**labels: object) -> str:
    quoted = (f"{name}={json.dumps(str(value))}" for name, value in labels.items())
    return "{" + ",".join(quoted) + "}"
