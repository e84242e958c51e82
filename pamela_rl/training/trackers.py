"""Experiment trackers besides the run's own record: tensorboard, wandb or trackio, through Accelerate."""

from __future__ import annotations

import copy
import importlib.util
import json
import math
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, get_args

from accelerate import Accelerator
from torch import Tensor

from pamela_rl.config import Tracker
from pamela_rl.errors import ConfigError
from pamela_rl.storage import ensure_writable, folder_name, write_text

REMEMBERED = "trackers.json"
TRACKERS: tuple[str, ...] = get_args(Tracker)


def check_trackers(names: Sequence[str]) -> None:
    """Refuse unknown trackers and those that are not installed, which Accelerate would silently leave out.

    Raises:
        ConfigError: Names the tracker and how to get it.
    """
    for name in names:
        if name not in TRACKERS:
            raise ConfigError(f"trackers has {name!r}; use any of {', '.join(TRACKERS)}.")
        if importlib.util.find_spec(name) is None:
            raise ConfigError(f"trackers has {name!r}, which is not installed: pip install 'pamela_rl[{name}]'.")


def with_trackers_of_its_own(accelerator: Accelerator, together: int) -> Accelerator:
    """Return the accelerator for one of several people who train at the same time, with trackers of their own.

    Raises:
        ConfigError: There is a tracker that follows one run a process.
    """
    single = sorted({str(getattr(kind, "value", kind)) for kind in accelerator.log_with or ()} & {"wandb", "trackio"})
    if single and together > 1:
        raise ConfigError(
            f"trackers has {single[0]}, which follows one run a process, but {together} people train at the same time; use "
            "tensorboard, or --together 1."
        )
    own = copy.copy(accelerator)
    own.trackers, own.project_configuration = [], copy.copy(accelerator.project_configuration)
    return own


@contextmanager
def tracked(
    accelerator: Accelerator, project: str, run: str, settings: Mapping[str, Any], folder: Path
) -> Iterator[None]:
    """Open the accelerator's trackers for one user's run, and close them after the block.

    A run that is resumed goes on in the trackers' run, which ``trackers.json`` in its folder remembers.

    Args:
        accelerator: Made with ``log_with`` and, for tensorboard, a project folder.
        project: Name of the project.
        run: Name of the run: the user.
        settings: Of the run; nested values are written as text.
        folder: The user's own.

    Raises:
        ConfigError: A tracker cannot be opened.
    """
    folders = accelerator.project_configuration
    together = folders.logging_dir
    try:
        if accelerator.log_with:
            if together is not None:
                folders.logging_dir = str(Path(together) / folder_name(run))  # tensorboard tells runs apart by folders
            _open(accelerator, project, run, settings, folder / REMEMBERED)
        yield
    finally:
        for tracker in accelerator.trackers:
            tracker.finish()
        accelerator.trackers, folders.logging_dir = [], together


def _open(accelerator: Accelerator, project: str, run: str, settings: Mapping[str, Any], remembered: Path) -> None:
    plain = {k: v if isinstance(v, int | float | str | bool) else str(v) for k, v in settings.items()}
    kinds = {str(getattr(kind, "value", kind)) for kind in accelerator.log_with}
    ids = json.loads(remembered.read_text(encoding="utf-8")) if remembered.exists() else {}
    wandb_id, known = ids.get("wandb", uuid.uuid4().hex), "trackio" in ids  # trackio finds its run by the name
    named = {
        "wandb": {"name": run, "id": wandb_id, "resume": "allow"},
        "trackio": {"name": run, "resume": "allow" if known else "never"},
    }
    try:
        accelerator.init_trackers(project, config=plain, init_kwargs=named)
        if accelerator.is_main_process:
            ensure_writable(remembered.parent)
            ids |= {kind: named[kind].get("id", run) for kind in kinds & named.keys()}
            write_text(remembered, json.dumps(ids) + "\n")
    except Exception as error:  # each tracker has errors of its own: no login, no network, a folder that is read only
        for tracker in accelerator.trackers:
            with suppress(AttributeError):  # of those that did not start, which have nothing to finish
                tracker.finish()
        accelerator.trackers = []
        raise ConfigError(
            f"the trackers {', '.join(sorted(kinds))} cannot be opened ({' '.join(str(error).split())}); log in, choose an "
            "offline mode (WANDB_MODE=offline), or leave --trackers out: the run keeps its own record."
        ) from error


def track(accelerator: Accelerator, metrics: Mapping[str, float], iteration: int) -> None:
    """Log one iteration's metrics; those that are not finite are left out."""
    accelerator.log({name: value for name, value in metrics.items() if math.isfinite(value)}, step=iteration)


def track_images(accelerator: Accelerator, name: str, images: Tensor, iteration: int) -> None:
    """Log images, ``(n, 3, h, w)`` in [0, 1], to every tracker that can show them."""
    pixels = (images.detach().cpu().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    for tracker in accelerator.trackers:
        if tracker.name == "tensorboard":
            tracker.log_images({name: pixels}, step=iteration, dataformats="NHWC")
        elif tracker.name == "trackio":
            import trackio

            tracker.log({name: [trackio.Image(image) for image in pixels]}, step=iteration)
        elif hasattr(tracker, "log_images"):
            tracker.log_images({name: list(pixels)}, step=iteration)
