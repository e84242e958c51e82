"""What people report of themselves, as numbers; unknown is ordinary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor


@dataclass(frozen=True)
class DemographicsCoding:
    """How a table of people becomes columns: numbers standardised, categories as indicators; zeros where unknown.

    Attributes:
        numeric: Centre and spread of each numeric column.
        categories: The values of each other column that were seen when the coding was made.
    """

    numeric: Mapping[str, tuple[float, float]]
    categories: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, people: pd.DataFrame | None) -> DemographicsCoding:
        """Make the coding for a table of people; None or an empty table makes one without columns."""
        numeric: dict[str, tuple[float, float]] = {}
        categories: dict[str, tuple[str, ...]] = {}
        for column in [] if people is None else people.columns:
            values = people[column].dropna()  # type: ignore[index]
            if values.empty:
                continue  # nobody said: there is no centre, and no value to know again
            if pd.api.types.is_numeric_dtype(values):
                spread = float(values.std(ddof=0))
                numeric[str(column)] = (float(values.mean()), spread if spread > 0 else 1.0)
            else:
                categories[str(column)] = tuple(sorted(values.astype(str).unique()))
        return cls(numeric, categories)

    @property
    def dim(self) -> int:
        """How many columns the coding has, the constant included."""
        return 1 + len(self.numeric) + sum(len(values) for values in self.categories.values())

    def encode(self, person: Mapping[str, Any] | None) -> Tensor:
        """Code one person, ``(dim,)``; the first entry is 1. What is missing, unknown or unheard of is zero."""
        known = {key: value for key, value in (person or {}).items() if not pd.isna(value)}
        row = [1.0]
        for column, (centre, spread) in self.numeric.items():
            value = float(pd.to_numeric(pd.Series([known.get(column)]), errors="coerce").iloc[0])
            row.append((value - centre) / spread if np.isfinite(value) else 0.0)
        for column, values in self.categories.items():
            row += [1.0 if column in known and str(known[column]) == value else 0.0 for value in values]
        return torch.tensor(row, dtype=torch.float64)

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and numbers."""
        return {
            "numeric": {k: list(v) for k, v in self.numeric.items()},
            "categories": {k: list(v) for k, v in self.categories.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> DemographicsCoding:
        """Read what ``to_json`` returned."""
        return cls(
            {k: (float(v[0]), float(v[1])) for k, v in data["numeric"].items()},
            {k: tuple(v) for k, v in data["categories"].items()},
        )
