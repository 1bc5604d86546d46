"""Checkpoints that survive a kill: written whole or not at all, and verified when they are read."""

import contextlib
import hashlib
import io
import logging
import os
import pickle
from pathlib import Path
from typing import Any

import torch

DIGEST_SIZE = hashlib.sha256().digest_size
logger = logging.getLogger(__name__)


def save(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values to `path`, atomically even in a power cut.

    The file holds the SHA-256 of the bytes of `torch.save`, then the bytes.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        file.write(hashlib.sha256(content).digest() + content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def load(path: Path) -> dict[str, Any] | None:
    """Return what `save` wrote, its tensors on the CPU; None if the file is missing, or damaged, with a warning."""
    try:
        file = path.read_bytes()
    except FileNotFoundError:
        return None
    digest, content = file[:DIGEST_SIZE], file[DIGEST_SIZE:]
    if hashlib.sha256(content).digest() == digest:
        with contextlib.suppress(pickle.UnpicklingError, RuntimeError):  # intact, but not a checkpoint
            return dict(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))
    logger.warning(f"The checkpoint {path} is damaged ({len(file):,} bytes): starting from the first epoch")
    return None
