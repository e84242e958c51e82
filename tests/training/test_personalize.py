"""What is written beside an adapter."""

import pytest

from pamela_rl.training import personalize
from pamela_rl.training.personalize import versions


def test_a_package_that_was_not_installed_costs_no_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(personalize, "PACKAGES", ("torch", "on-the-path-only"))
    named = versions()
    assert named["torch"][0].isdigit()
    assert named["on-the-path-only"] == "unknown"
