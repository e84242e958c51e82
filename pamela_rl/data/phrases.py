"""Phrases that a prompt may add to its subject: lighting, angle, viewpoint, palette, composition."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_PREFIX_ENDS = (" of", " of a", " of the")


@dataclass(frozen=True)
class Phrasebook:
    """Phrases by attribute. A phrase that ends in "of" goes before the request; others follow it after a comma.

    Attributes:
        phrases: The phrases of each attribute, e.g. ``{"lighting": ("at noon", "at night")}``. A prompt has at most one
            phrase of each attribute. Phrases are added in this order.
    """

    phrases: Mapping[str, tuple[str, ...]]

    def unspecified(self, request: str) -> list[str]:
        """List the attributes without a phrase in the request."""
        words = request.lower()
        return [name for name, phrases in self.phrases.items() if not any(p.lower() in words for p in phrases)]

    def apply(self, request: str, chosen: Mapping[str, str]) -> str:
        """Add phrases to a request, e.g. "a close-up of a boat, at night".

        Args:
            request: The prompt without the phrases, e.g. "a boat".
            chosen: Phrase by attribute.
        """
        ordered = [chosen[name] for name in self.phrases if name in chosen]
        before = [phrase for phrase in ordered if phrase.endswith(_PREFIX_ENDS)]
        after = [phrase for phrase in ordered if not phrase.endswith(_PREFIX_ENDS)]
        return ", ".join([" ".join([*before, request]), *after])

    def added_phrases(self, prompt: str, request: str) -> dict[str, str]:
        """Return the phrases by attribute that ``prompt`` adds to ``request``; the inverse of ``apply``."""
        words = prompt.lower()
        found = {}
        for name in self.unspecified(request):
            present = [phrase for phrase in self.phrases[name] if phrase.lower() in words]
            if present:
                found[name] = max(present, key=len)
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
