"""Features on disk by key, safe for several processes, interrupted writes and damaged files."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import time
import uuid
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor

STALE = 3600.0  # seconds after which an unfinished file is treated as left by a killed process

logger = logging.getLogger(__name__)


class FeatureFiles:
    """Cached features of one encoder in a folder; without a folder nothing is cached.

    Each batch is a safetensors file with a key, a row and a checksum for every entry. Files are published by rename and
    never changed, so no locks are needed, and it works on network disks, where SQLite does not; one file per entry would
    be 70,000 small files. The name is the hash of the keys, so two processes that compute the same batch write the same
    file. Checksums replace fsync: lost entries are computed again.

    Args:
        root: Folder for the folders of all encoders; created if needed.
        identity: Everything that determines features besides the key. It is part of every checksum.
    """

    def __init__(self, root: str | Path | None, identity: str):
        self._identity = identity
        self._folder = None if root is None else Path(root) / hashlib.sha256(identity.encode()).hexdigest()[:32]
        if self._folder is None:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for partial in self._folder.glob(".*.partial"):
                if time.time() - partial.stat().st_mtime > STALE:
                    partial.unlink()
        except FileNotFoundError:
            pass  # another process removed it first
        except OSError as error:
            self._give_up(error)

    def find(self, keys: Collection[str]) -> dict[str, Tensor]:
        """Return the rows of the cached keys, ``(dim,)`` each, on the CPU. Damaged entries are removed."""
        found: dict[str, Tensor] = {}
        for file in sorted(self._folder.glob("*.safetensors")) if self._folder else ():
            found |= {key: row.clone() for key, row in self._read(file).items() if key in keys}
        return found

    def save(self, features: Mapping[str, Tensor]) -> None:
        """Save rows, fp32, ``(dim,)`` each, by SHA-256 keys in hex. If that fails, a warning is logged once."""
        if self._folder is None or not features:
            return
        keys = sorted(features)
        content = save(
            {
                "keys": torch.stack([_as_bytes(key) for key in keys]),
                "features": torch.stack([features[key] for key in keys]),
                "checksums": torch.stack([_as_bytes(self._checksum(key, features[key])) for key in keys]),
            }
        )
        name = hashlib.sha256("".join(keys).encode()).hexdigest()[:32]
        partial = self._folder / f".{uuid.uuid4().hex}.partial"
        try:
            partial.write_bytes(content)
            os.replace(partial, self._folder / f"{name}.safetensors")
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink()
            self._give_up(error)

    def _read(self, file: Path) -> dict[str, Tensor]:
        """Return the valid entries of a file; if some are not, rewrite it with the valid ones."""
        try:
            content = file.read_bytes()  # not memory-mapped: truncation of a mapped file would kill the process
        except OSError:
            return {}
        try:
            shard = load(content)
            keys = [bytes(row.tolist()).hex() for row in shard["keys"]]
            checksums = [bytes(row.tolist()).hex() for row in shard["checksums"]]
            entries = list(zip(keys, shard["features"], checksums, strict=True))
            sound = {key: row for key, row, checksum in entries if checksum == self._checksum(key, row)}
            whole = len(sound) == len(entries) > 0
        except Exception:  # the bytes are not a file of this cache
            sound, whole = {}, False
        if not whole:
            with contextlib.suppress(OSError):
                file.unlink()
            self.save(sound)
        return sound

    def _checksum(self, key: str, row: Tensor) -> str:
        facts = json.dumps([self._identity, key, str(row.dtype), list(row.shape)])
        return hashlib.sha256(facts.encode() + row.numpy().tobytes()).hexdigest()

    def _give_up(self, error: OSError) -> None:
        logger.warning(
            "features cannot be kept in %s (%s); going on without: they will be computed again next time. "
            "Free the disk, or give another folder.",
            self._folder,
            error,
        )
        self._folder = None


def _as_bytes(digest: str) -> Tensor:
    return torch.frombuffer(bytearray.fromhex(digest), dtype=torch.uint8)
