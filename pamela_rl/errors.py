"""What a user can mend. Everything else is a plain Python error.

PamelaError
├── ConfigError          a setting, or a combination of settings, that cannot work
├── DataError            ratings, images or prompts that cannot be used; names the file and the row
├── UnknownUserError     a person the reward or the run does not know
├── CheckpointError      a folder that belongs to another run, or a checkpoint that cannot be read
├── StorageError         a file that cannot be written; what was saved before is whole
├── AdapterError         an adapter that is missing, or does not load back as it was saved
├── TrainingError        a run that stopped because its rewards or gradients stopped being numbers
├── OutOfMemory          a run that a device has no memory for
├── Interrupted          a run that was asked to stop, and saved what it had
├── ServiceError         a remote service that refused, cannot be reached, or answers nonsense
└── BudgetError          a budget of pictures or money that is spent
"""

from pathlib import Path


class PamelaError(Exception):
    """Base of every error whose remedy is in the user's hands; its text says which thing, which value, what to do."""


class ConfigError(PamelaError, ValueError):
    """A setting, or a combination of settings, that cannot work."""


class DataError(PamelaError, ValueError):
    """Ratings, images or prompts that cannot be used."""


class UnknownUserError(PamelaError, KeyError):
    """A person the reward or the run does not know."""

    __str__ = Exception.__str__  # KeyError would show the sentence in quotes


class CheckpointError(PamelaError):
    """A folder that belongs to another run, or a checkpoint that cannot be read."""


class StorageError(PamelaError):
    """A file that cannot be written, e.g. on a full disk; what was saved before is whole."""


class AdapterError(PamelaError):
    """An adapter that is missing, or does not load back as it was saved."""


class TrainingError(PamelaError):
    """A run that stopped because its rewards or gradients stopped being finite numbers."""


class OutOfMemory(PamelaError):
    """A run that a device, or the machine, has no memory for; what was finished is saved."""


class Interrupted(PamelaError):
    """A run that was asked to stop, and saved what it had.

    Args:
        signal: Name of the signal that asked.
        folder: Of the run.
        iteration: Iterations that are saved.
    """

    def __init__(self, signal: str, folder: Path, iteration: int):
        super().__init__(
            f"stopped by {signal}; {iteration} iterations are saved in {folder}, and the same command goes on from there."
        )


class ServiceError(PamelaError):
    """A remote service that refused, cannot be reached, or answers nonsense. Its text never holds a key."""


class BudgetError(PamelaError):
    """A budget of pictures or money that is spent."""
