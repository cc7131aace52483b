"""The configuration: every key with its default; `agent.config_loader` reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from agent.config_commands import MOST_COMMANDS, Command, CommandHook
from agent.config_section import Section
from agent.networks import Networks

PACKAGE_ROOT = Path(__file__).resolve().parent.parent
"""The checkout, or the folder that the package is installed in."""


class Listener(Section):
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8080, ge=0, le=65535, description="TCP port; 0 lets the system choose")
    tls: bool = Field(False, description="serve https and wss on this listener")


class Tls(Section):
    cert: Path | None = Field(None, description="PEM certificate; none: one is made for the box")
    key: Path | None = Field(None, description="PEM private key of the certificate")

    @model_validator(mode="after")
    def _both_or_none(self) -> Tls:
        if (self.cert is None) != (self.key is None):
            raise ValueError("set cert and key together, or neither")
        return self


class Auth(Section):
    mode: Literal["token", "open"] = Field(
        "token", description="open: listeners off loopback serve everyone; `auth: open` for short"
    )
    open_metrics: Networks = Field(
        [], description="networks that read /health and /metrics without the token"
    )
    session_days: float = Field(30, gt=0, le=3650, description="how long a browser stays signed in")
    attempts_per_minute: int = Field(
        10, ge=1, le=1000, description="wrong tokens that one address may send"
    )

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"mode": value} if isinstance(value, str) else value


class Funasr(Section):
    allow: Networks = Field(
        "private",
        description="who may speak FunASR's protocol without the token: off, private or networks",
    )


class Models(Section):
    dir: Path = Field(
        PACKAGE_ROOT / "models", description="folder of the models that came with the agent"
    )
    vad: list[str] = Field(["builtin-vad"], min_length=1, description="voice activity detection")
    asr_online: list[str] = Field(
        ["builtin-online"], description="streaming recogniser (partials); empty: none"
    )
    asr_offline: list[str] = Field(
        ["builtin-offline"], description="recogniser of whole segments (finals); empty: none"
    )
    punctuation: list[str] = Field(["none"], description="punctuation model; `none` ends the list")
    trusted_keys: list[str] = Field(
        [], description="Ed25519 public keys (PEM files); with any, unsigned models are refused"
    )
    max_bundle_mb: int = Field(8192, ge=1, description="largest bundle, unpacked")
    mirror: str | None = Field(
        None,
        description="where `models fetch` downloads from: a URL with {name}, {revision} and {file}",
    )


class Inference(Section):
    provider: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: the faster of those that are proven to work on this box"
    )
    online_threads: int = Field(
        1, ge=1, le=64, description="ONNX Runtime threads of the online lane (VAD, partials)"
    )
    online_workers: int = Field(
        0, ge=0, le=64, description="hops of live streams computed at a time; 0: one a core"
    )
    batch_hops: int = Field(
        8, ge=1, le=32, description="hops that may share a run where it changes no number; 1: none"
    )
    offline_nice: int = Field(
        2, ge=0, le=19, description="how far finals and files give way to live partials (niceness)"
    )
    offline_threads: int = Field(
        1, ge=1, le=64, description="ONNX Runtime threads of the offline lane (finals)"
    )
    memory: Literal["normal", "low"] = Field(
        "normal", description="low: only the weights are kept between runs, a few per cent slower"
    )
    gpu_device: int = Field(0, ge=0, le=63, description="which GPU, as CUDA counts them")
    gpu_memory_mb: int = Field(
        0,
        ge=0,
        le=1 << 20,
        description="most that each graph may take on the GPU; 0: half of a memory that the CPU "
        "shares, else no limit",
    )
    queue: int = Field(64, ge=1, description="jobs that may wait for a lane")
    job_limit_s: float = Field(
        30, gt=0, description="a job older than this makes the agent unhealthy"
    )


class Vad(Section):
    """FunASR's own parameters of FSMN-VAD; null: as the model's config.yaml has it."""

    sample_rate: Literal[16000] | None = Field(None, description="rate of the audio, Hz")
    detect_mode: Literal[0, 1] | None = Field(None, description="1: many segments, 0: only one")
    snr_mode: int | None = Field(None, description="decides nothing")
    max_end_silence_time: int | None = Field(
        None, ge=0, le=60000, description="ms; null: max_end_silence_ms above"
    )
    max_start_silence_time: int | None = Field(
        None, ge=0, description="ms of silence after which detect_mode 0 gives up"
    )
    do_start_point_detection: bool | None = Field(None, description="decides nothing")
    do_end_point_detection: bool | None = Field(None, description="decides nothing")
    window_size_ms: int | None = Field(
        None, ge=10, le=1000, description="sliding window that speech is decided in"
    )
    sil_to_speech_time_thres: int | None = Field(
        None, ge=0, le=5000, description="ms of speech in the window that start a segment"
    )
    speech_to_sil_time_thres: int | None = Field(
        None, ge=0, le=5000, description="ms of speech in the window, below which it is silence"
    )
    speech_2_noise_ratio: float | None = Field(
        None, ge=0, description="exponent of the silence's probability"
    )
    do_extend: Literal[0, 1] | None = Field(None, description="1: widen segments at both ends")
    lookback_time_start_point: int | None = Field(
        None, ge=0, le=1500, description="ms put before a segment"
    )
    lookahead_time_end_point: int | None = Field(
        None, ge=0, le=5000, description="ms left behind a segment"
    )
    max_single_segment_time: int | None = Field(
        None, ge=1000, le=120000, description="ms; null: max_segment_ms above"
    )
    snr_thres: float | None = Field(
        None, description="dB above the noise that a frame of speech must have"
    )
    noise_frame_num_used_for_snr: int | None = Field(
        None, ge=1, description="frames that the noise is averaged over"
    )
    decibel_thres: float | None = Field(None, description="dB below which a frame is silence")
    speech_noise_thres: float | None = Field(
        None, ge=-1, le=1, description="by how much speech must be likelier than silence"
    )
    fe_prior_thres: float | None = Field(None, description="decides nothing")
    silence_pdf_num: int | None = Field(None, ge=1, description="decides nothing")
    sil_pdf_ids: list[Annotated[int, Field(ge=0)]] | None = Field(
        None, min_length=1, description="classes of the graph that are silence"
    )
    speech_noise_thresh_low: float | None = Field(None, description="decides nothing")
    speech_noise_thresh_high: float | None = Field(None, description="decides nothing")
    output_frame_probs: bool | None = Field(None, description="decides nothing")
    frame_in_ms: int | None = Field(None, ge=1, le=100, description="from one frame to the next")
    frame_length_ms: int | None = Field(None, ge=1, le=1000, description="length of a frame")


class Recognition(Section):
    pre_roll_ms: int = Field(
        100, ge=0, le=1000, description="audio kept before the start that the VAD decided"
    )
    max_segment_ms: int = Field(
        60000, ge=1000, le=120000, description="a longer segment is cut here"
    )
    max_end_silence_ms: int = Field(800, ge=200, le=6000, description="silence that ends a segment")
    vad: Vad = Field(
        Vad(), description="the VAD's own parameters; null: as its config.yaml has them"
    )


class Stream(Section):
    max_sessions: int = Field(100, ge=1, description="live streams at a time; more are refused")
    max_load: float = Field(
        0.85,
        gt=0,
        le=10,
        description="share of the online lane that streams may need; more are refused",
    )
    late_ms: int = Field(
        600, ge=100, description="new streams are refused when one partial in 20 is later than this"
    )
    final_late_ms: int = Field(
        1000, ge=100, description="new streams get no second pass when one final in 20 is later"
    )
    degrade: bool = Field(
        True,
        description="near the limit new streams go without second pass, then with a longer hop",
    )
    resume_s: float = Field(60, ge=0, description="a cut stream waits this long for its client")
    ping_s: float = Field(20, gt=0, description="WebSocket ping interval")
    idle_s: float = Field(
        300, gt=0, description="a stream that sends nothing this long is finished"
    )
    max_message_bytes: int = Field(4_194_304, ge=65536, description="largest WebSocket message")
    buffer_ms: int = Field(
        2000, ge=200, description="audio a stream may have waiting before its socket is slowed"
    )
    resume_events: int = Field(1000, ge=16, description="events kept for a client that comes back")


class Microphone(Section):
    """The box's own microphone."""

    enabled: bool = Field(
        False, description="whether the box listens itself, until it is set on the page or by REST"
    )
    switch: bool = Field(True, description="whether page and REST may turn it on and off")
    device: str = Field(
        "", description="part or pattern of a name, or an id; empty: the system's default"
    )
    fallback: bool = Field(True, description="another device serves where that one can't be opened")
    channel: int = Field(0, ge=0, le=16, description="1 is the first; 0: the mean of all")
    rate: int = Field(0, ge=0, le=192_000, description="Hz to open it with; 0: its own")
    gain_db: float = Field(0, ge=-40, le=40, description="until it is set on the page or by REST")
    mode: Literal["offline", "online", "2pass"] = Field(
        "2pass", description="2pass: live text, then refined"
    )
    hotwords: dict[str, int] = Field({}, description="phrases with their weights")
    itn: bool = Field(True, description="whether numbers are rewritten")
    language: str = Field("auto", description="language that is spoken, where a model asks")
    stall_ms: int = Field(
        2000, ge=300, le=60_000, description="no audio for so long: the device is opened again"
    )
    ring_ms: int = Field(
        2000, ge=200, le=60_000, description="audio that may wait; beyond it the oldest is lost"
    )
    retry_min_ms: int = Field(500, ge=100, le=60_000, description="first wait between tries")
    retry_max_ms: int = Field(
        5000, ge=100, le=600_000, description="longest; each wait is twice the last"
    )
    probe_s: float = Field(
        15, ge=1, description="how often the wanted device is looked for while another serves"
    )
    session_s: float = Field(
        3600, ge=10, description="length of a session; the next begins in a pause"
    )

    @model_validator(mode="after")
    def _bounds(self) -> Microphone:
        if self.retry_max_ms < self.retry_min_ms:
            raise ValueError("retry_max_ms must be at least retry_min_ms")
        if 0 < self.rate < 4000:
            raise ValueError("rate must be 0 or at least 4000 Hz")
        return self


class Uploads(Section):
    max_mb: int = Field(512, ge=1, description="largest file")
    max_duration_s: int = Field(14400, ge=1, description="longest audio")
    concurrent: int = Field(2, ge=1, description="files decoded at a time; more are refused")


class History(Section):
    """What was said, kept for search; audio never is."""

    enabled: bool = Field(
        True, description="false keeps not a word on the disk; `history: off` for short"
    )
    keep_days: int = Field(90, ge=0, le=36500, description="older finals go; 0: none do")
    max_mb: int = Field(512, ge=1, le=1 << 20, description="largest size; then the oldest go")

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        words = {"on": True, "off": False}
        value = words.get(value, value) if isinstance(value, str) else value
        return {"enabled": value} if isinstance(value, bool) else value


class Events(Section):
    history: int = Field(2000, ge=16, description="events that `?since=` can reach back")
    client_queue: int = Field(
        500, ge=16, description="events that may wait for a slow viewer before it is cut off"
    )


class Health(Section):
    canary_s: float = Field(30, gt=0, description="how often the canary is decoded")
    canary_max_age_s: float = Field(
        120, gt=0, description="an older canary makes the agent not ready"
    )


class Logging(Section):
    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least severe message that is logged"
    )
    format: Literal["auto", "text", "ecs"] = Field(
        "auto",
        description="ecs: JSON lines for Filebeat; auto: text on a terminal or in the journal, "
        "else ecs",
    )


class Shutdown(Section):
    timeout_s: float = Field(10, gt=0, description="time for the last finals at a stop")


class Config(Section):
    """Every setting of the agent."""

    listen: Annotated[list[Listener], Field(min_length=1)] = Field(
        [Listener()], description="addresses; each serves the whole application"
    )
    tls: Tls = Field(Tls(), description="certificate of the listeners with `tls: true`")
    auth: Auth = Field(Auth(), description="who may use listeners off loopback")
    funasr: Funasr = Field(Funasr(), description="FunASR clients, which can't send a token")
    state_dir: Path = Field(
        PACKAGE_ROOT / "var", description="what the agent keeps (certificate, token, socket)"
    )
    run_dir: Path | None = Field(None, description="sockets; none: `run` in state_dir")
    models: Models = Field(
        Models(), description="ids of each role in order; the first that loads serves"
    )
    inference: Inference = Field(Inference(), description="threads and queues")
    recognition: Recognition = Field(Recognition(), description="how speech is cut and read")
    stream: Stream = Field(Stream(), description="live WebSocket streams")
    microphone: Microphone = Field(Microphone(), description="the box's own microphone")
    commands: list[Command] = Field(
        [], max_length=MOST_COMMANDS, description="phrases that are commands"
    )
    command_hook: CommandHook = Field(CommandHook(), description="what commands set off")
    uploads: Uploads = Field(Uploads(), description="files sent to the API")
    history: History = Field(History(), description="finals kept on the disk")
    events: Events = Field(Events(), description="the event socket")
    health: Health = Field(Health(), description="readiness")
    logging: Logging = Field(Logging(), description="what is logged and how")
    shutdown: Shutdown = Field(Shutdown(), description="graceful stop")

    @property
    def sockets_dir(self) -> Path:
        """Folder of the unix socket."""
        return self.run_dir if self.run_dir is not None else self.state_dir / "run"


def is_loopback(host: str) -> bool:
    """Whether `host` names this machine only."""
    return host in ("localhost", "::1") or host.startswith("127.")


def json_schema() -> dict[str, Any]:
    """JSON schema of config.yaml."""
    return Config.model_json_schema()
