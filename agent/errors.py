"""The error hierarchy. Every error has a stable code and says what, where and what to do."""

from __future__ import annotations

from dataclasses import dataclass


class AgentError(Exception):
    """Base of every error that the agent raises on purpose.

    `code` is stable and meant for programs; the message is meant for people.
    """

    code = "error"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True)
class ConfigProblem:
    """One thing that is wrong with the configuration."""

    key: str
    """Dotted path of the key, for example `listen.0.port`."""
    message: str
    """What is wrong and what would be right."""
    source: str = ""
    """Where the value came from: a file name, `environment` or `--set`."""

    def __str__(self) -> str:
        where = f"{self.source}: " if self.source else ""
        return f"{where}{self.key}: {self.message}"


class ConfigError(AgentError):
    """The configuration can't be used; carries every problem at once."""

    code = "bad_config"

    def __init__(self, problems: list[ConfigProblem]) -> None:
        super().__init__("\n".join(str(p) for p in problems))
        self.problems = problems


class ModelError(AgentError):
    """A model can't be used. `file` names the offending file where there is one."""

    code = "model_error"
    level = ""
    """Level of verification that failed: `integrity`, `compatibility`, `function`; else empty."""

    def __init__(self, message: str, *, file: str = "") -> None:
        super().__init__(f"{file}: {message}" if file else message)
        self.file = file


class ManifestError(ModelError):
    """manifest.yaml is missing, malformed or points outside its folder."""

    code = "bad_manifest"
    level = "integrity"


class IntegrityError(ModelError):
    """Level 1: a file is missing, has another size or another SHA-256."""

    code = "integrity"
    level = "integrity"


class SignatureError(IntegrityError):
    """Level 1: the manifest is unsigned, or not signed by a trusted key."""

    code = "signature"


class CompatibilityError(ModelError):
    """Level 2: this runtime or this family can't run the graph."""

    code = "compatibility"
    level = "compatibility"


class RuntimeCrash(CompatibilityError):
    """Level 2: the runtime died, or never came back, when the model was tried in a process of
    its own."""

    code = "runtime_crash"


class GoldenMismatch(ModelError):
    """Level 3: the model runs but does not recognise its golden audio."""

    code = "golden_mismatch"
    level = "function"


class InferenceError(ModelError):
    """A loaded graph failed on an input."""

    code = "inference"
    level = "function"


class ModelLoadError(ModelError):
    """No model of a role's list could be loaded."""

    code = "model_load"


class BundleError(ModelError):
    """A bundle is malformed, hostile or larger than allowed; nothing of it is kept."""

    code = "bad_bundle"


class BundleTooLarge(BundleError):
    """A bundle is larger than `models.max_bundle_mb`, packed or unpacked."""

    code = "too_large"


class AlreadyInstalled(ModelError):
    """The same model is installed already, and sound."""

    code = "already_installed"


class ModelInUse(ModelError):
    """A model that a role uses can't be removed."""

    code = "in_use"


class UnknownModel(ModelError):
    """There is no model of this name here."""

    code = "unknown_model"


class FetchError(ModelError):
    """A mirror did not give what was asked for; what came so far is kept for another try."""

    code = "fetch"


class NoSpace(AgentError):
    """The disk has no room for what is to be written."""

    code = "no_space"


class StoreBusy(AgentError):
    """Another process is changing the model store."""

    code = "store_busy"


class HistoryOff(AgentError):
    """No history is kept on this box."""

    code = "history_off"


class UnknownTranscript(AgentError):
    """The history has no such final or session."""

    code = "unknown_transcript"


class AudioDeviceError(AgentError):
    """The microphone is absent, busy or gone."""

    code = "audio_device"


class MediaError(AgentError):
    """A file is not audio (`not_audio`) or can't be decoded (`undecodable`)."""

    code = "media"

    def __init__(self, message: str, *, code: str = "undecodable") -> None:
        super().__init__(message)
        self.code = code


class ProtocolError(AgentError):
    """A client broke its protocol; `close_code` is the WebSocket close code to use."""

    code = "protocol"

    def __init__(self, message: str, *, close_code: int = 1002) -> None:
        super().__init__(message)
        self.close_code = close_code


class Overloaded(AgentError):
    """No room for more work now; `retry_after` is in seconds."""

    code = "overloaded"

    def __init__(self, message: str, *, retry_after: int = 5) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class NotReady(AgentError):
    """The agent is starting, or has no usable model; the message says which."""

    code = "not_ready"


class StreamFailed(AgentError):
    """A recogniser failed inside one stream; other streams are not affected."""

    code = "stream_failed"
