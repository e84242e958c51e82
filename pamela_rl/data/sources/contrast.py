"""Images that nobody rated as the other side of favourites."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from PIL import Image

from pamela_rl.data.images import ImageStore, open_files
from pamela_rl.data.sources.rated_images import RatedImages
from pamela_rl.errors import DataError

PREFIX = "not chosen/"  # of the ids of images to contrast with
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class JoinedImages:
    """Several stores as one: ids that begin with a prefix are looked up, without it, in that prefix's store.

    Attributes:
        stores: Stores by prefix; "" is the one for all other ids.
    """

    stores: Mapping[str, ImageStore]

    def open(self, image: str) -> Image.Image:
        """Decode an image, as ``ImageStore.open``."""
        store, name = self._find(image)
        return store.open(name)

    def missing_reason(self, image: str) -> str | None:
        """Return why the image is not available, as ``ImageStore.missing_reason``."""
        store, name = self._find(image)
        return store.missing_reason(name)

    def digest(self, image: str) -> str:
        """Hash the image's file, as ``ImageStore.digest``."""
        store, name = self._find(image)
        return store.digest(name)

    def _find(self, image: str) -> tuple[ImageStore, str]:
        prefix = next((prefix for prefix in self.stores if prefix and image.startswith(prefix)), "")
        return self.stores[prefix], image[len(prefix) :]


def with_contrast(rated: RatedImages, folder: str | Path) -> RatedImages:
    """Add the images of a folder as not chosen: everybody who rated is taken to give them the lowest rating.

    Favourites alone say what is liked and nothing of what is not. Images that are as good as the favourites, but were
    not seen, count as not liked; so contrast with ordinary drawings of the model that is to be tuned.

    Args:
        rated: Ratings.
        folder: Of images, or a zip of them.

    Raises:
        DataError: There is no image in the folder, or the favourites have the lowest rating themselves.
    """
    files, table = open_files(folder), rated.table
    names = sorted(name for name in files.file_names() if name.lower().endswith(SUFFIXES))
    if not names:
        raise DataError(f"source.contrast is {folder}, which holds no image; give a folder of {', '.join(SUFFIXES)}.")
    low = table.scale.low
    if table.rows["rating"].max() <= low:
        raise DataError(
            f"source.contrast counts images as not chosen, rated {low:g}, and so are all of {table.source}; "
            "give source.scale, whose highest rating is that of the favourites."
        )
    added = pd.DataFrame(
        [(user, PREFIX + name, low) for user in table.user_ids for name in names],
        columns=["user_id", "image", "rating"],
    )
    rows = pd.concat([table.rows, added], ignore_index=True)
    print(f"{len(names)} images of {folder} count as not chosen (rating {low:g}).")
    return replace(rated, table=replace(table, rows=rows), images=JoinedImages({"": rated.images, PREFIX: files}))
