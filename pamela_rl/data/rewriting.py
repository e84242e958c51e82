"""How a language model is asked to rewrite a request for one person, and how its answer is read."""

from __future__ import annotations

INSTRUCTION = (
    "Rewrite the request for a picture so that this person will like the picture. Keep what is asked for; add only "
    "lighting, colours, viewpoint or composition. Answer with the rewritten request alone, on one line."
)
MAX_LETTERS = 300  # text encoders read 77 tokens
_LABELS = ("rewrite:", "rewritten request:", "rewritten:", "prompt:")
_QUOTES = "\"'`“”«»*"


def rewrite_messages(description: str, request: str) -> list[dict[str, str]]:
    """Return the chat that asks for a rewrite: an instruction, then the person and the request.

    Args:
        description: What the person likes, in words.
        request: What the picture is to show, e.g. "a boat".
    """
    return [
        {"role": "system", "content": INSTRUCTION},
        {"role": "user", "content": f"person: {description}\nrequest: {request}"},
    ]


def read_rewrite(answer: str) -> str | None:
    """Return the first line that says something, without quotes or a label; None for no line or a very long one."""
    _, _, after = answer.rpartition("</think>")  # what a model thought aloud is no part of its answer
    for line in after.splitlines():
        text = line.strip().strip(_QUOTES).strip()
        for label in _LABELS:
            if text.lower().startswith(label):
                text = text[len(label) :].strip().strip(_QUOTES).strip()
        if any(letter.isalnum() for letter in text):
            return text if len(text) <= MAX_LETTERS else None
    return None
