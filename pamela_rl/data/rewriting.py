"""The chat that asks a language model to rewrite a prompt for one user, and the parser of its answer."""

from __future__ import annotations

INSTRUCTION = (
    "Rewrite the request for a picture so that this person will like the picture. Keep what is asked for; add only "
    "lighting, colours, viewpoint or composition. Answer with the rewritten request alone, on one line."
)
MAX_CHARACTERS = 300  # text encoders read 77 tokens
_LABELS = ("rewrite:", "rewritten request:", "rewritten:", "prompt:")
_QUOTES = "\"'`“”«»*"


def rewrite_messages(description: str, request: str) -> list[dict[str, str]]:
    """Return the chat messages: an instruction, then the user's taste and the request.

    Args:
        description: The user's taste, in words.
        request: The prompt to rewrite, e.g. "a boat".
    """
    return [
        {"role": "system", "content": INSTRUCTION},
        {"role": "user", "content": f"person: {description}\nrequest: {request}"},
    ]


def parse_rewrite(answer: str) -> str | None:
    """Return the first line with letters or digits, without quotes and labels; None if there is none or it is too long."""
    _, _, after = answer.rpartition("</think>")  # reasoning is not part of the answer
    for line in after.splitlines():
        text = line.strip().strip(_QUOTES).strip()
        for label in _LABELS:
            if text.lower().startswith(label):
                text = text[len(label) :].strip().strip(_QUOTES).strip()
        if any(character.isalnum() for character in text):
            return text if len(text) <= MAX_CHARACTERS else None
    return None
