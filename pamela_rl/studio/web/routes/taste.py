"""Requests about one's taste: in words, in pictures, and how well it is known."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from pamela_rl.studio.web.routes.pictures import as_json
from pamela_rl.studio.web.visitor import Here, Me

router = APIRouter()


@router.get("/api/taste")
def taste(studio: Here, me: Me) -> dict[str, Any]:
    """Return what is known of a person's taste."""
    found: dict[str, Any] = studio.parts["taste"].describe(me.id)
    return {**found, "liked": [as_json(p) for p in found["liked"]], "disliked": [as_json(p) for p in found["disliked"]]}
