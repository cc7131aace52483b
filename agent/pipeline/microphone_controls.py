"""Mute and gain of the microphone, kept over restarts: a box that was muted stays muted."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict, dataclass
from pathlib import Path

_log = logging.getLogger(__name__)

MOST_GAIN_DB = 40.0
_MAX_BYTES = 4096


@dataclass(frozen=True)
class Controls:
    """What page and REST set."""

    muted: bool = False
    gain_db: float = 0.0


def read_controls(path: Path, default: Controls) -> Controls:
    """What was set last; `default` where nothing was, or the file is damaged."""
    try:
        with path.open("rb") as file:
            fields = json.loads(file.read(_MAX_BYTES))
        muted, gain_db = fields["muted"], float(fields["gain_db"])
    except FileNotFoundError:
        return default
    except (OSError, ValueError, KeyError, TypeError) as error:
        _log.warning("%s can't be read (%s); the microphone starts muted", path, error)
        return Controls(True, default.gain_db)
    return Controls(muted is True, min(max(gain_db, -MOST_GAIN_DB), MOST_GAIN_DB))


def write_controls(path: Path, controls: Controls) -> None:
    """Write atomically. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    with fresh.open("w", encoding="utf-8") as file:
        json.dump(asdict(controls), file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)
