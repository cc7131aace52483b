"""Tries models in a process of its own: a graph that kills the runtime must not kill the agent.

The process (`agent.store.trial_process`) lives for as long as a `TrialRunner` is open and takes
one request after the other; when it dies, that is the result of the request it was at.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from agent.errors import (
    CompatibilityError,
    GoldenMismatch,
    InferenceError,
    IntegrityError,
    ManifestError,
    ModelError,
    ModelLoadError,
    RuntimeCrash,
    SignatureError,
)

START_S = 60.0
"""Time to import the runtime, on a slow card."""
BASE_S = 120.0
SLOWEST_BYTES_A_SECOND = 4 << 20
"""A request gets `BASE_S` and the time to read its model at this rate."""
_MAX_LINE = 1 << 20
_TAIL_BYTES = 2000
_END_S = 2.0
"""Time to end for a process that has closed its output."""
_PACKAGE_ROOT = Path(__file__).resolve().parents[2]
_ERRORS: Mapping[str, type[ModelError]] = {
    cls.code: cls
    for cls in (
        ManifestError,
        IntegrityError,
        SignatureError,
        CompatibilityError,
        RuntimeCrash,
        GoldenMismatch,
        InferenceError,
    )
}
_NUMBERS = ("load_s", "golden_s", "audio_s", "memory_mb", "gpu_mb")
_TEXTS = ("code", "level", "message")


@dataclass(frozen=True)
class TrialRequest:
    """One variant of a model, to be verified at all three levels and timed."""

    folder: str
    manifest_sha256: str
    """The trial refuses a folder whose manifest is another one by now."""
    role: str
    variant: str
    provider: str
    derived: str = ""
    """Folder of the derived graphs to use instead of the variant's own; empty: its own."""
    threads: int = 1
    gpu: Mapping[str, int] = field(default_factory=dict)
    """Fields of `agent.engine.base.GpuSettings`."""
    vad: Mapping[str, Any] = field(default_factory=dict)
    runs: int = 3
    """Runs of the golden audio; the shortest counts."""


@dataclass(frozen=True)
class TrialResult:
    """What a trial measured, or why the model is refused."""

    load_s: float = 0.0
    """Verification and loading."""
    golden_s: float = 0.0
    """Time to read the golden audio."""
    audio_s: float = 0.0
    memory_mb: float = 0.0
    """What the loaded model added to the resident memory."""
    nodes: Mapping[str, int] = field(default_factory=dict)
    """Provider -> nodes that ran on it; empty where it was not looked at."""
    notes: Sequence[str] = ()
    """Operators that compute and yet ran on the CPU, with their numbers."""
    code: str = ""
    """Code of the error; empty when the model passed."""
    level: str = ""
    message: str = ""
    gpu_mb: float = 0.0
    """What the GPU held more after the runs, where it shares the memory and that is told: weights,
    arena and CUDA itself; none of it is resident memory."""

    @classmethod
    def from_json(cls, tree: Any) -> TrialResult:
        """The result that was written as `asdict` of it. Raises ValueError for anything else."""
        try:
            unknown = set(tree) - {known.name for known in fields(cls)}
            found: dict[str, Any] = {name: float(tree.get(name, 0.0)) for name in _NUMBERS}
            sound = not unknown and all(map(math.isfinite, found.values()))
            found.update({name: str(tree.get(name, "")) for name in _TEXTS})
            nodes = {str(name): int(count) for name, count in tree.get("nodes", {}).items()}
            notes = tuple(map(str, tree.get("notes", ())))
        except (AttributeError, TypeError, OverflowError):
            sound = False
        if not sound:
            raise ValueError("is not the result of a trial")
        return cls(**found, nodes=nodes, notes=notes)

    @property
    def passed(self) -> bool:
        """Whether all three levels were passed."""
        return not self.code

    @property
    def rtf(self) -> float:
        """Seconds of work a second of audio."""
        return self.golden_s / self.audio_s if self.audio_s else 0.0

    def error(self) -> ModelError:
        """The refusal as an error of the same code, level and message."""
        error = _ERRORS.get(self.code, ModelLoadError)(self.message)
        error.code, error.level = self.code, self.level
        return error


def refusal(error: ModelError) -> TrialResult:
    """The result that says what `error` says."""
    return TrialResult(code=error.code, level=error.level, message=error.message)


ABORTED = "aborted"
"""Code of a trial that was given up, which says nothing of the model."""
_ABORTED = TrialResult(code=ABORTED, message="the trial was given up: the agent is stopping")


class TrialRunner:
    """Runs trials; a context manager that ends the process."""

    def __init__(
        self,
        *,
        command: Sequence[str] | None = None,
        background: bool = False,
        start_s: float = START_S,
    ) -> None:
        """`background`: with low priority, beside live streams."""
        self._command = list(command or (sys.executable, "-m", "agent.store.trial_process"))
        self._background = background
        self._start_s = start_s
        self._process: subprocess.Popen[bytes] | None = None
        self._aborted = False
        self._said: IO[bytes] | None = None

    def __enter__(self) -> TrialRunner:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def run(self, request: TrialRequest, *, timeout_s: float | None = None) -> TrialResult:
        """Verify, load and run one variant. Refusals and crashes are results, never raised."""
        return self._ask({"do": "try", **asdict(request)}, timeout_s or _time_for(request))

    def derive(self, request: Mapping[str, str], *, timeout_s: float) -> TrialResult:
        """Make a derived variant (see `agent.store.trial_process`)."""
        return self._ask({"do": "derive", **request}, timeout_s)

    def probe(self, provider: str, *, timeout_s: float = BASE_S) -> str:
        """Why a provider can't be used on this box; empty when it can."""
        return self._ask({"do": "probe", "provider": provider}, timeout_s).message

    def abort(self) -> None:
        """From another thread: the trial at work ends as a refusal, and so does every later one."""
        self._aborted = True
        process = self._process
        if process is not None:
            process.kill()

    def close(self) -> None:
        """End the process; idempotent."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
            process.wait()
        if self._said is not None:
            self._said.close()
            self._said = None

    def _ask(self, request: Mapping[str, Any], timeout_s: float) -> TrialResult:
        result = _ABORTED if self._aborted else self._answer(request, timeout_s)
        return _ABORTED if self._aborted else result

    def _answer(self, request: Mapping[str, Any], timeout_s: float) -> TrialResult:
        limit_s = timeout_s
        process = self._process
        if process is None or process.poll() is not None:
            self.close()
            limit_s += self._start_s
            try:
                process = self._start()
            except OSError as error:
                self.close()
                return refusal(_not_started(error))
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            line = self._read_line(process, limit_s)
        except BrokenPipeError:
            line = b""
        except TimeoutError:
            self.close()
            reason = f"it did not come back within {timeout_s:.0f} s when it was tried"
            return _crash(f"{reason}; the model or this ONNX Runtime is unfit for this box")
        try:
            return TrialResult.from_json(json.loads(line))
        except (ValueError, RecursionError):
            return _crash(self._epitaph(process, answered=bool(line)))

    def _start(self) -> subprocess.Popen[bytes]:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            cwd=_PACKAGE_ROOT,
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "OPENBLAS_NUM_THREADS": "1",
                "FUNASR_AGENT_TRIAL_NICE": "10" if self._background else "0",
            },
        )
        return self._process

    @staticmethod
    def _read_line(process: subprocess.Popen[bytes], timeout_s: float) -> bytes:
        """What came up to the end of a line, or up to `_MAX_LINE`; b"" at the end of the stream.

        Raises TimeoutError.
        """
        assert process.stdout is not None
        deadline = time.monotonic() + timeout_s
        line = bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while b"\n" not in line and len(line) < _MAX_LINE:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError
                piece = os.read(process.stdout.fileno(), _MAX_LINE)
                if not piece:
                    return b""
                line += piece
        return bytes(line)

    def _epitaph(self, process: subprocess.Popen[bytes], *, answered: bool) -> str:
        how = "gave no answer that can be read"
        if not answered:
            with contextlib.suppress(subprocess.TimeoutExpired):
                how = f"ended with {_end(process.wait(_END_S))}"
        said = ""
        if self._said is not None:
            size = self._said.seek(0, os.SEEK_END)
            self._said.seek(max(0, size - _TAIL_BYTES))
            lines = self._said.read().decode(errors="replace").strip().splitlines()
            said = f" ({lines[-1]})" if lines else ""
        self.close()
        return (
            f"the process that tried it {how}{said}; the model or this ONNX "
            "Runtime is unfit for this box: `funasr-agent doctor` looks at the runtime"
        )


def _end(status: int) -> str:
    if status >= 0:
        return f"status {status}"
    try:
        return f"signal {-status} ({signal.Signals(-status).name})"
    except ValueError:
        return f"signal {-status}"


def _crash(reason: str) -> TrialResult:
    return refusal(RuntimeCrash(reason))


def _not_started(error: OSError) -> ModelLoadError:
    """Says nothing against the model, so it is no crash: those are remembered."""
    return ModelLoadError(
        f"the process that tries models can't be started ({error.strerror or error}); look for "
        "memory and space in the temporary folder, or install the agent again"
    )


def _time_for(request: TrialRequest) -> float:
    size = 0
    with contextlib.suppress(OSError):
        size = sum(entry.stat().st_size for entry in os.scandir(request.folder))
    return BASE_S + size / SLOWEST_BYTES_A_SECOND
