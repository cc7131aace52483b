"""What page and REST set of the microphone, kept over restarts: who was muted stays muted."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agent.config import Microphone

_log = logging.getLogger(__name__)

MOST_GAIN_DB = 40.0
_MAX_BYTES = 4096


@dataclass(frozen=True)
class Controls:
    """None: as the configuration has it."""

    muted: bool = False
    gain_db: float | None = None
    enabled: bool | None = None


def read_controls(path: Path, settings: Microphone) -> Controls:
    """What was set last; nothing where the file lacks, muted where it is damaged.

    What was set in place of a key's value holds until the key has another one: who changes the
    configuration has the last word.
    """
    try:
        with path.open("rb") as file:
            fields = json.loads(file.read(_MAX_BYTES))
        now = _configured(settings)
        before = fields.get("instead_of", now)
        held = {name: fields.get(name) for name in now if before.get(name) == now[name]}
        muted, gain_db, enabled = fields["muted"], held.get("gain_db"), held.get("enabled")
        if gain_db is not None:
            gain_db = min(max(float(gain_db), -MOST_GAIN_DB), MOST_GAIN_DB)
    except FileNotFoundError:
        return Controls()
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        _log.warning("%s can't be read (%s); the microphone starts muted", path, error)
        return Controls(muted=True)
    return Controls(muted is True, gain_db, enabled if isinstance(enabled, bool) else None)


def write_controls(path: Path, controls: Controls, settings: Microphone) -> None:
    """Write atomically. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    with fresh.open("w", encoding="utf-8") as file:
        json.dump({**asdict(controls), "instead_of": _configured(settings)}, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)


def _configured(settings: Microphone) -> dict[str, Any]:
    return {"gain_db": settings.gain_db, "enabled": settings.enabled}
