"""The configuration: schema with defaults, loader, every problem reported at once.

Sources, later ones win: defaults < file < environment (`FUNASR_AGENT__A__B=c`) < `--set a.b=c`.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from agent.errors import ConfigError, ConfigProblem

ENV_PREFIX = "FUNASR_AGENT__"
SYSTEM_CONFIG = Path("/etc/funasr-agent/config.yaml")
PACKAGE_ROOT = Path(__file__).resolve().parent.parent
"""The checkout, or the folder that the package is installed in."""


class Section(BaseModel):
    """Base of every section: unknown keys are refused, values can't be changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


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

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"mode": value} if isinstance(value, str) else value


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


class Inference(Section):
    online_threads: int = Field(
        1, ge=1, le=64, description="ONNX Runtime threads of the online lane (VAD, partials)"
    )
    offline_threads: int = Field(
        1, ge=1, le=64, description="ONNX Runtime threads of the offline lane (finals)"
    )
    queue: int = Field(64, ge=1, description="jobs that may wait for a lane")
    job_limit_s: float = Field(
        30, gt=0, description="a job older than this makes the agent unhealthy"
    )


class Recognition(Section):
    pre_roll_ms: int = Field(
        100, ge=0, le=1000, description="audio kept before the start that the VAD decided"
    )
    max_segment_ms: int = Field(
        60000, ge=1000, le=120000, description="a longer segment is cut here"
    )
    max_end_silence_ms: int = Field(800, ge=200, le=6000, description="silence that ends a segment")


class Stream(Section):
    max_sessions: int = Field(100, ge=1, description="live streams at a time; more are refused")
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


class Uploads(Section):
    max_mb: int = Field(512, ge=1, description="largest file")
    max_duration_s: int = Field(14400, ge=1, description="longest audio")
    concurrent: int = Field(2, ge=1, description="files decoded at a time; more are refused")


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
        "auto", description="ecs: JSON lines for Filebeat; auto: text on a terminal, else ecs"
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
    state_dir: Path = Field(
        PACKAGE_ROOT / "var", description="what the agent keeps (certificate, socket)"
    )
    run_dir: Path | None = Field(None, description="sockets; none: `run` in state_dir")
    models: Models = Field(
        Models(), description="ids of each role in order; the first that loads serves"
    )
    inference: Inference = Field(Inference(), description="threads and queues")
    recognition: Recognition = Field(Recognition(), description="how speech is cut and read")
    stream: Stream = Field(Stream(), description="live WebSocket streams")
    uploads: Uploads = Field(Uploads(), description="files sent to the API")
    events: Events = Field(Events(), description="the event socket")
    health: Health = Field(Health(), description="readiness")
    logging: Logging = Field(Logging(), description="what is logged and how")
    shutdown: Shutdown = Field(Shutdown(), description="graceful stop")

    @property
    def sockets_dir(self) -> Path:
        """Folder of the unix socket."""
        return self.run_dir if self.run_dir is not None else self.state_dir / "run"


def find_config_file(explicit: Path | None, environ: Mapping[str, str], cwd: Path) -> Path | None:
    """The file to read: `--config`, $FUNASR_AGENT_CONFIG, ./config.yaml, /etc; None: defaults."""
    if explicit is not None:
        return explicit
    if environ.get("FUNASR_AGENT_CONFIG"):
        return Path(environ["FUNASR_AGENT_CONFIG"])
    for candidate in (cwd / "config.yaml", SYSTEM_CONFIG):
        if candidate.is_file():
            return candidate
    return None


def load_config(
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    settings: Sequence[str] = (),
) -> Config:
    """Merge the sources and validate. Raises ConfigError with every problem at once."""
    problems: list[ConfigProblem] = []
    tree: dict[str, Any] = {}
    origin: dict[str, str] = {}
    if file is not None:
        _merge(tree, _read_file(file, problems), origin, str(file))
    for name, text in sorted((environ or os.environ).items()):
        if name.startswith(ENV_PREFIX):
            keys = name[len(ENV_PREFIX) :].lower().split("__")
            _override(tree, keys, text, origin, f"environment {name}", problems)
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            problems.append(ConfigProblem(setting, "write it as KEY=VALUE", "--set"))
            continue
        _override(tree, key.split("."), text, origin, "--set", problems)
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        problems.extend(_problem(e, origin) for e in error.errors())
        raise ConfigError(problems) from None
    problems.extend(_contradictions(config, origin))
    if problems:
        raise ConfigError(problems)
    return config


def _read_file(file: Path, problems: list[ConfigProblem]) -> dict[str, Any]:
    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        problems.append(ConfigProblem(str(file), f"can't be read: {error.strerror}"))
    except UnicodeDecodeError:
        problems.append(ConfigProblem(str(file), "is not UTF-8 text"))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1})" if mark else ""
        what = getattr(error, "problem", None) or "not YAML"
        problems.append(ConfigProblem(str(file), f"is not valid YAML: {what}{line}"))
    except (ValueError, RecursionError) as error:  # an impossible date, nesting without end
        problems.append(ConfigProblem(str(file), f"is not valid YAML: {error}"))
    else:
        if data is None:
            return {}
        if isinstance(data, dict):
            return data
        problems.append(ConfigProblem(str(file), "must be a mapping of keys to values"))
    return {}


def _merge(
    tree: dict[str, Any], extra: dict[str, Any], origin: dict[str, str], source: str, at: str = ""
) -> None:
    for key, value in extra.items():
        path = f"{at}.{key}" if at else str(key)
        if value is None and key not in ("run_dir", "cert", "key"):
            continue  # an empty section in the file means its defaults
        if isinstance(value, dict):
            if not isinstance(tree.get(key), dict):
                tree[key] = {}
            _merge(tree[key], value, origin, source, path)
        else:
            tree[key] = value
            origin[path] = source


def _override(
    tree: dict[str, Any],
    keys: list[str],
    text: str,
    origin: dict[str, str],
    source: str,
    problems: list[ConfigProblem],
) -> None:
    path = ".".join(keys)
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        problems.append(ConfigProblem(path, f"{text!r} is not a YAML value", source))
        return
    node: Any = tree
    for depth, key in enumerate(keys[:-1]):
        if isinstance(node, list):
            if not key.isdigit() or int(key) >= len(node):
                problems.append(ConfigProblem(path, f"no entry {key} in the list", source))
                return
            node = node[int(key)]
            continue
        child = node.get(key)
        if not isinstance(child, dict | list):
            child = _default_at(keys[: depth + 1])
            node[key] = child
        node = child
    last = keys[-1]
    if isinstance(node, list) and last.isdigit() and int(last) < len(node):
        node[int(last)] = value
    elif isinstance(node, dict):
        node[last] = value
    else:
        problems.append(ConfigProblem(path, f"no entry {last} in the list", source))
        return
    origin[path] = source


def _default_at(keys: list[str]) -> Any:
    """A fresh copy of the default list at `keys`, so that one entry can be set; else a mapping."""
    node: Any = Config().model_dump()
    for key in keys:
        node = node.get(key) if isinstance(node, dict) else None
    return node if isinstance(node, list) else {}


def _problem(error: Any, origin: dict[str, str]) -> ConfigProblem:
    path = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        known = _names_beside(error["loc"])
        near = difflib.get_close_matches(str(error["loc"][-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"valid here: {', '.join(known)}"
        message = f"unknown key; {hint}"
    else:
        shown = error.get("input")
        value = "" if isinstance(shown, dict | list) else f" (value: {shown!r})"
        message = error["msg"].removeprefix("Value error, ") + value
    return ConfigProblem(path or "config", message, _source_of(path, origin))


def _source_of(path: str, origin: dict[str, str]) -> str:
    while path:
        if path in origin:
            return origin[path]
        below = next((s for p, s in origin.items() if p.startswith(path + ".")), None)
        if below:
            return below
        path = path.rpartition(".")[0]
    return ""


def _names_beside(location: tuple[Any, ...]) -> list[str]:
    """Valid key names in the section that holds the last element of `location`."""
    model: type[BaseModel] = Config
    for part in location[:-1]:
        if isinstance(part, int):
            continue
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            model = annotation
        elif part == "listen":
            model = Listener
    return list(model.model_fields)


def is_loopback(host: str) -> bool:
    """Whether `host` names this machine only."""
    return host in ("localhost", "::1") or host.startswith("127.")


def _contradictions(config: Config, origin: dict[str, str]) -> list[ConfigProblem]:
    """What single values can't show."""
    problems = []
    for i, listener in enumerate(config.listen):
        key = f"listen.{i}.host"
        if not is_loopback(listener.host) and config.auth.mode != "open":
            problems.append(
                ConfigProblem(
                    key,
                    f"{listener.host} can be reached from the network, and access control is "
                    "off: set `auth: open` to serve everyone there, or use 127.0.0.1",
                    _source_of(key, origin),
                )
            )
    taken: dict[tuple[str, int], int] = {}
    for i, listener in enumerate(config.listen):
        if listener.port and (listener.host, listener.port) in taken:
            key = f"listen.{i}.port"
            first = taken[listener.host, listener.port]
            problems.append(
                ConfigProblem(
                    key, f"{listener.port} is also listen.{first}.port", _source_of(key, origin)
                )
            )
        taken.setdefault((listener.host, listener.port), i)
    if not config.models.asr_online and not config.models.asr_offline:
        problems.append(
            ConfigProblem("models", "asr_online and asr_offline are both empty: nothing to read")
        )
    return problems


def json_schema() -> dict[str, Any]:
    """JSON schema of config.yaml."""
    return Config.model_json_schema()
