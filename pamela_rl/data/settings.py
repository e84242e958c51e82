"""Settings of where ratings come from."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

from pamela_rl.config.checks import refuse_unused
from pamela_rl.errors import ConfigError, DataError

Kind = Literal["world", "pamela", "lapis", "para", "flickr_aes", "folder", "huggingface", "choices"]


@dataclass(frozen=True)
class SourceSettings:
    """Where ratings and images are.

    Attributes:
        kind: "folder" is data of your own: a table of ratings or of choices, a folder or zip with such a table in it,
            sub-folders whose names are ratings (1 to 5, liked and disliked), an export of an annotation tool, or a
            downloaded dataset. "choices" is a table of choices between two images. "world" is the embedded world and
            needs no path. The others are published layouts. None is "folder" where there is a path, else "world".
        path: The folder, archive, table or hub id.
        images: Folder or zip of the images, where they are not beside the table.
        columns: Our column names to yours, e.g. {user_id: worker}; an empty name says that there is no such column.
            Other columns are found by their usual names.
        user: Who rated, where the table has no column of users; None is "me".
        raters: Of a folder: a table of what people report.
        choices: A table of user_id, image_a, image_b and choice (a, b or tie), of the same images; may be given
            beside the ratings.
        split: Of a dataset with splits, the one to read, or several as train+validation. None reads all that have our
            names, or the only one.
        image_column: Of a dataset with images inside, their column; None is the only one.
        scale: Lowest and highest rating; a third number is the step, 0 for a slider. None is 1 to 5, or another usual
            scale where the ratings say so beyond doubt.
        on_bad_row: "stop" at the first bad row, or "skip" all and tell which.
        contrast: Folder or zip of images that count as not chosen, beside favourites alone.
    """

    kind: Kind | None = None
    path: str | None = None
    images: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    user: str | None = None
    raters: str | None = None
    choices: str | None = None
    split: str | None = None
    image_column: str | None = None
    scale: list[float] | None = None
    on_bad_row: Literal["stop", "skip"] = "stop"
    contrast: str | None = None

    def __post_init__(self) -> None:
        if self.kind == "world" and self.path is not None:
            raise ConfigError(
                f"source.kind is 'world' but source.path is {self.path!r}; leave out source.kind to read your own data, "
                "or source.path for the embedded world."
            )
        if self.path is None and self.kind in (None, "world"):
            others = [setting.name for setting in fields(self) if setting.name not in ("kind", "path")]
            refuse_unused(self, others, "there is no source.path", prefix="source.")
        if self.kind not in (None, "world") and self.path is None:
            raise ConfigError(f"source.kind is {self.kind!r} but there is no source.path; give the folder or file.")
        if self.scale is not None and len(self.scale) not in (2, 3):
            raise ConfigError(f"source.scale has {len(self.scale)} numbers; give the lowest and the highest rating.")
        if self.user is not None and not self.user.strip():
            raise ConfigError("source.user is blank; give the name of who rated, or leave it out.")

    @property
    def layout(self) -> Kind:
        """The kind; where none is given, "folder" if there is a path, else "world"."""
        return self.kind or ("world" if self.path is None else "folder")

    def check_paths(self) -> None:
        """Check that files and folders exist; a Hugging Face dataset may be on the hub.

        Raises:
            DataError: Names the setting and the path.
        """
        paths = {"images": self.images, "raters": self.raters, "choices": self.choices, "contrast": self.contrast}
        if self.layout not in ("world", "huggingface"):
            paths = {"path": self.path, **paths}
        for name, path in paths.items():
            if path is None or Path(path).exists() or any(parent.is_file() for parent in Path(path).parents):
                continue  # inside a file: a folder in a zip, which is checked when it is opened
            remedy = "; correct it, or say --source.kind huggingface for a dataset on the hub" * (name == "path")
            raise DataError(f"source.{name} is {path}, but there is no such file or folder{remedy}.")
