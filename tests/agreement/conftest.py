from __future__ import annotations

import pytest
from small_taste_basis import small_taste_basis

from pamela_rl.rewards.taste.taste_basis import TasteBasis


@pytest.fixture
def small_basis() -> TasteBasis:
    return small_taste_basis()
