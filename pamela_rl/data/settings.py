"""Settings of where ratings come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pamela_rl.errors import ConfigError, DataError


@dataclass(frozen=True)
class SourceSettings:
    """Where ratings and pictures are.

    Attributes:
        kind: "world" needs nothing else; "folder" is a table of ratings of your own, "choices" one of choices between
            two pictures; the others are published layouts.
        path: The folder, archive, table or hub id.
        images: Of a folder's pictures, where they are not beside the table.
        columns: Of a folder or a Hugging Face dataset, our names to yours, e.g. {user_id: worker}.
        raters: Of a folder: a table of what people report.
        choices: A table of user_id, image_a, image_b and choice (a, b or tie), of the same pictures; may be given
            beside the ratings.
        scale: Lowest and highest rating; a third number is the step, 0 for a slider.
        on_bad_row: "stop" at the first bad row, or "skip" all and tell which.
    """

    kind: Literal["world", "pamela", "lapis", "para", "flickr_aes", "folder", "huggingface", "choices"] = "world"
    path: str | None = None
    images: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    raters: str | None = None
    choices: str | None = None
    scale: list[float] = field(default_factory=lambda: [1.0, 5.0])
    on_bad_row: Literal["stop", "skip"] = "stop"

    def __post_init__(self) -> None:
        if self.kind != "world" and self.path is None:
            raise ConfigError(f"source.kind is {self.kind!r} but there is no source.path; give the folder or file.")
        if len(self.scale) not in (2, 3):
            raise ConfigError(f"source.scale has {len(self.scale)} numbers; give the lowest and the highest rating.")

    def check_paths(self) -> None:
        """Refuse files and folders that are not there; a Hugging Face dataset may be on the hub.

        Raises:
            DataError: Names the setting and the path.
        """
        paths = {"images": self.images, "raters": self.raters, "choices": self.choices}
        if self.kind not in ("world", "huggingface"):
            paths = {"path": self.path, **paths}
        for name, path in paths.items():
            if path is not None and not Path(path).exists():
                raise DataError(f"source.{name} is {path}, but there is no such file or folder.")
