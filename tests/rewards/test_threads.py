from __future__ import annotations

import pytest
import torch

from pamela_rl.rewards.threads import MOST_THREADS, few_threads


@pytest.mark.parametrize(("there_are", "used"), [(1, 1), (MOST_THREADS + 3, MOST_THREADS)])
def test_a_fit_takes_few_threads_and_gives_them_back(there_are: int, used: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(there_are)
    with pytest.raises(ZeroDivisionError), few_threads():  # noqa: PT012
        assert torch.get_num_threads() == used
        raise ZeroDivisionError
    assert torch.get_num_threads() == there_are
    torch.set_num_threads(before)
