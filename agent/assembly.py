"""From the configuration to the settings of the parts; shared by the daemon and the commands."""

from __future__ import annotations

from pathlib import Path

from agent.config import Config
from agent.engine.base import EngineSettings
from agent.engine.session import SessionSettings
from agent.store.roles import Role


def model_folders(config: Config) -> list[Path]:
    """Where models are looked for, in order."""
    return [config.models.dir]


def role_lists(config: Config) -> dict[Role, list[str]]:
    """Ids of each role in the configured order."""
    models = config.models
    return {
        "vad": models.vad,
        "asr_online": models.asr_online,
        "asr_offline": models.asr_offline,
        "punctuation": models.punctuation,
    }


def engine_settings(config: Config) -> dict[Role, EngineSettings]:
    """How each role's model is run."""
    recognition, inference = config.recognition, config.inference
    vad = {
        "max_end_silence_time": recognition.max_end_silence_ms,
        "max_single_segment_time": recognition.max_segment_ms,
    }
    return {
        "vad": EngineSettings(threads=inference.online_threads, vad=vad),
        "asr_online": EngineSettings(threads=inference.online_threads),
        "asr_offline": EngineSettings(threads=inference.offline_threads),
        "punctuation": EngineSettings(threads=inference.offline_threads),
    }


def session_settings(config: Config) -> SessionSettings:
    """How speech is cut out of a stream."""
    return SessionSettings(pre_roll_ms=config.recognition.pre_roll_ms)
