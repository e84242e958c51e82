"""Numeric encoding of demographics; values may be missing."""

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
    """Encoding of demographics: numbers standardised, categories one-hot, zeros for missing values.

    Attributes:
        numeric: Mean and standard deviation of each numeric column.
        categories: Values of each categorical column.
    """

    numeric: Mapping[str, tuple[float, float]]
    categories: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, table: pd.DataFrame | None) -> DemographicsCoding:
        """Fit the coding to a table of users; None or an empty table gives a coding without columns."""
        numeric: dict[str, tuple[float, float]] = {}
        categories: dict[str, tuple[str, ...]] = {}
        for column in [] if table is None else table.columns:
            values = table[column].dropna()  # type: ignore[index]
            if values.empty:
                continue  # all values are missing
            if pd.api.types.is_numeric_dtype(values):
                std = float(values.std(ddof=0))
                numeric[str(column)] = (float(values.mean()), std if std > 0 else 1.0)
            else:
                categories[str(column)] = tuple(sorted(values.astype(str).unique()))
        return cls(numeric, categories)

    @property
    def dim(self) -> int:
        """Number of columns, including the constant."""
        return 1 + len(self.numeric) + sum(len(values) for values in self.categories.values())

    def encode(self, demographics: Mapping[str, Any] | None) -> Tensor:
        """Encode one user, ``(dim,)``. The first entry is 1; missing and unknown values are 0."""
        given = {key: value for key, value in (demographics or {}).items() if not pd.isna(value)}
        row = [1.0]
        for column, (mean, std) in self.numeric.items():
            value = float(pd.to_numeric(pd.Series([given.get(column)]), errors="coerce").iloc[0])
            row.append((value - mean) / std if np.isfinite(value) else 0.0)
        for column, values in self.categories.items():
            row += [1.0 if column in given and str(given[column]) == value else 0.0 for value in values]
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
