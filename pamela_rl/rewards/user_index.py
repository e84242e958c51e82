"""Look-up of users by id."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pamela_rl.rewards.saved import unknown_user


def user_rows(user_ids: Sequence[str], all_user_ids: Sequence[str]) -> Tensor:
    """Return the row of each user in the list of known users, ``(b,)``.

    Raises:
        UnknownUserError: A user is not in the list.
    """
    order = {user: row for row, user in enumerate(all_user_ids)}
    for user in user_ids:
        if user not in order:
            raise unknown_user(user, all_user_ids)
    return torch.tensor([order[user] for user in user_ids], dtype=torch.int64)


def with_user_row(
    user_id: str, row: Tensor, all_user_ids: Sequence[str], rows: Tensor
) -> tuple[tuple[str, ...], Tensor]:
    """Append a user and their row; the old row of a known user is removed."""
    keep = [place for place, user in enumerate(all_user_ids) if user != user_id]
    return (*(all_user_ids[place] for place in keep), user_id), torch.cat([rows[keep], row[None].to(rows)])
