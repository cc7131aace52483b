"""From the configuration to the settings of the parts; shared by the daemon and the commands."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from agent.config import Config
from agent.engine.base import EngineSettings, GpuSettings
from agent.engine.itn import InverseNormalizer
from agent.engine.session import SessionSettings
from agent.errors import ConfigError, ConfigProblem, ModelError
from agent.pipeline.admission import LoadLimits
from agent.pipeline.service import Limits
from agent.store.box_memory import read_memory
from agent.store.roles import Role
from agent.store.store import ModelStore, StoreSettings
from agent.store.trial import TrialRunner
from agent.voice_commands.matcher import CommandMatcher

_STEP_MB = 256


def store_settings(config: Config) -> StoreSettings:
    """Where the model store is, and what of the configuration it needs."""
    return StoreSettings(
        shipped=config.models.dir,
        state=config.state_dir,
        lists=role_lists(config),
        engine=engine_settings(config),
        provider=config.inference.provider,
        trusted_keys=config.models.trusted_keys,
        max_bundle_bytes=config.models.max_bundle_mb << 20,
    )


def model_store(config: Config, *, beside_streams: bool = False) -> ModelStore:
    """The model store. `beside_streams`: its trials give way to the agent's own work.

    Raises ConfigError for a trusted key that can't be read.
    """
    trials = partial(TrialRunner, background=beside_streams)
    try:
        return ModelStore(store_settings(config), open_trials=trials)
    except ModelError as error:
        problem = ConfigProblem("models.trusted_keys", error.message)
        raise ConfigError([problem]) from None


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
        **recognition.vad.model_dump(exclude_none=True),
    }
    low, gpu = inference.memory == "low", gpu_settings(config)
    online = EngineSettings(threads=inference.online_threads, low_memory=low, gpu=gpu)
    offline = EngineSettings(threads=inference.offline_threads, low_memory=low, gpu=gpu)
    return {
        "vad": replace(online, vad=vad),
        "asr_online": online,
        "asr_offline": offline,
        "punctuation": offline,
    }


def gpu_settings(config: Config, root: Path = Path("/")) -> GpuSettings:
    """How the GPU is used. Where it shares the box's memory a graph gets half of it at most: there
    the kernel ends programs when the GPU has taken all."""
    inference = config.inference
    limit = inference.gpu_memory_mb
    memory = read_memory(root)
    if not limit and memory is not None and memory.shared:
        # Whole steps: the kernel's own share differs by a few MB from start to start.
        limit = memory.total_mb // 2 // _STEP_MB * _STEP_MB
    return GpuSettings(inference.gpu_device, limit)


def stream_limits(config: Config) -> Limits:
    """Bounds of the live streams."""
    stream = config.stream
    load = LoadLimits(stream.max_load, stream.late_ms, stream.final_late_ms, stream.degrade)
    return Limits(stream.max_sessions, stream.buffer_ms, load)


def command_matcher(config: Config) -> CommandMatcher:
    """The spoken commands, ready to be found in texts."""
    return CommandMatcher(config.commands)


def session_settings(config: Config) -> SessionSettings:
    """How speech is cut out of a stream, and what its finals go through."""
    return SessionSettings(config.recognition.pre_roll_ms, InverseNormalizer())
