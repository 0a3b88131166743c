"""The file that holds the private key of mutable items (BEP 44): one line of 64 hex digits, for its owner alone."""

from __future__ import annotations

import os
import random
import stat
from pathlib import Path

from kademlia_bt.items.signing import SEED_BYTES, KeyPair
from wire.errors import DiskError, ProtocolError

__all__ = ["load_or_make_keys", "others_may_read"]

_MAX_BYTES = 1_024


def load_or_make_keys(path: Path, rng: random.Random) -> tuple[KeyPair, bool]:
    """The keys in a file, and whether they were made now since there was no such file.

    A new file is readable by its owner alone (mode 0600). `rng` must be `random.SystemRandom()` in life.
    Raises DiskError, and ProtocolError where the file holds something else: it is left as it is.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _load(path), False
    except OSError as error:
        raise DiskError(f"cannot write the key file {path}: {error.strerror or error}") from None
    keys = KeyPair.generate(rng)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(keys.seed.hex() + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)
        raise DiskError(f"cannot write the key file {path}: {error.strerror or error}") from None
    return keys, True


def others_may_read(path: Path) -> bool:
    """Whether somebody else on this machine may read the key."""
    try:
        return os.name == "posix" and bool(path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO))
    except OSError:
        return False


def _load(path: Path) -> KeyPair:
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES).strip()
    except OSError as error:
        raise DiskError(f"cannot read the key file {path}: {error.strerror or error}") from None
    try:
        seed = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        seed = b""
    if len(seed) != SEED_BYTES:
        raise ProtocolError(f"{path} is no key file: it has one line of {2 * SEED_BYTES} hex digits")
    return KeyPair(seed)
