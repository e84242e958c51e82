"""What a prompt may add to its subject without changing it: phrases for lighting, angle, viewpoint, palette, composition."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_PREFIX_ENDS = (" of", " of a", " of the")


@dataclass(frozen=True)
class Phrasebook:
    """Phrases by attribute. A phrase that ends in "of" goes before the request, any other behind it, after a comma.

    Attributes:
        phrases: Attribute to its phrases, e.g. ``{"lighting": ("at noon", "at night")}``; a prompt takes at most one
            of each. Phrases are added in this order.
    """

    phrases: Mapping[str, tuple[str, ...]]

    def left_open(self, request: str) -> list[str]:
        """List the attributes of which the request names no phrase."""
        words = request.lower()
        return [name for name, phrases in self.phrases.items() if not any(p.lower() in words for p in phrases)]

    def apply(self, request: str, chosen: Mapping[str, str]) -> str:
        """Add one phrase of each chosen attribute to a request, e.g. "a close-up of a boat, at night".

        Args:
            request: What was asked for.
            chosen: Attribute to phrase.
        """
        ordered = [chosen[name] for name in self.phrases if name in chosen]
        before = [phrase for phrase in ordered if phrase.endswith(_PREFIX_ENDS)]
        after = [phrase for phrase in ordered if not phrase.endswith(_PREFIX_ENDS)]
        return ", ".join([" ".join([*before, request]), *after])

    def chosen_in(self, prompt: str, request: str) -> dict[str, str]:
        """Return the phrases that a prompt adds to the request it was made from, the inverse of ``apply``."""
        words = prompt.lower()
        found = {}
        for name in self.left_open(request):
            there = [phrase for phrase in self.phrases[name] if phrase.lower() in words]
            if there:
                found[name] = max(there, key=len)
        return found


PHOTOGRAPHIC = Phrasebook(
    {
        "viewpoint": ("a wide view of", "a medium shot of", "a close-up of"),
        "lighting": (
            "in bright daylight",
            "at golden hour",
            "at sunset",
            "at night",
            "in soft diffused light",
            "in dramatic side light",
            "backlit",
            "in mist",
        ),
        "palette": (
            "in vivid colours",
            "in pastel colours",
            "in earthy colours",
            "in cool colours",
            "in warm colours",
            "in black and white",
        ),
        "angle": ("seen from below", "seen at eye level", "seen from above"),
        "composition": (
            "on the left",
            "in the centre",
            "on the right",
            "in a symmetrical composition",
            "with much empty space around",
        ),
    }
)
