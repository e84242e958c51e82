"""Finding people by their ids."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pamela_rl.errors import UnknownUserError


def rows_of(user_ids: Sequence[str], known: Sequence[str]) -> Tensor:
    """Return the row of each person among those a model knows, ``(b,)``.

    Raises:
        UnknownUserError: The model does not know a person.
    """
    order = {user: row for row, user in enumerate(known)}
    for user in user_ids:
        if user not in order:
            raise UnknownUserError(
                f"the reward does not know user {user!r}; it knows {len(order)} people "
                f"({', '.join(list(order)[:3])}, …). Show some of their ratings with introduce first."
            )
    return torch.tensor([order[user] for user in user_ids], dtype=torch.int64)


def with_row(user_id: str, row: Tensor, known: Sequence[str], rows: Tensor) -> tuple[tuple[str, ...], Tensor]:
    """Return the people and their rows with one more at the end; somebody already known moves there."""
    keep = [place for place, user in enumerate(known) if user != user_id]
    return (*(known[place] for place in keep), user_id), torch.cat([rows[keep], row[None].to(rows)])
