"""Provider and variant by proof: each candidate is tried at all levels before one is chosen.

int8 belongs on the CPU and fp32 or fp16 on CUDA: its provider has no kernels for dynamic int8, so
these nodes would run on the CPU with copies around them. Where a model has no graph for CUDA, one
is derived from its int8 weights. For the CPU, graphs of the same numbers are derived that run or
load faster there.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

from agent.engine.base import EngineSettings
from agent.errors import CompatibilityError, RuntimeCrash
from agent.store.candidates import (
    DERIVE_SIZES,
    DERIVED,
    Candidate,
    candidates,
)
from agent.store.choices import Attempt, ChoiceBook, ProviderChoice
from agent.store.derive import load_derived
from agent.store.disk import Disk
from agent.store.library import FoundModel
from agent.store.rewrite_signed import NothingToDo
from agent.store.roles import Role
from agent.store.trial import ABORTED, TrialRequest, TrialResult

_log = logging.getLogger(__name__)

DERIVE_LIMIT_S = 900.0


class Trials(Protocol):
    """What is used of `agent.store.trial.TrialRunner`."""

    def run(self, request: TrialRequest, *, timeout_s: float | None = None) -> TrialResult: ...

    def derive(self, request: Mapping[str, Any], *, timeout_s: float) -> TrialResult: ...

    def probe(self, provider: str, *, timeout_s: float) -> str: ...

    def abort(self) -> None: ...


OpenTrials = Callable[[], AbstractContextManager[Trials]]


@dataclass(frozen=True)
class Gpu:
    """Whether CUDA can be used, and if not, why, in words."""

    works: bool
    reason: str


class Chooser:
    """Chooses by proof, and remembers the proof for as long as the box stays the same."""

    def __init__(
        self,
        book: ChoiceBook,
        derived: Path,
        disk: Disk,
        *,
        provider: str,
        fingerprint: Mapping[str, str],
        gpu: Callable[[], Gpu],
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
        derive_sizes: range = DERIVE_SIZES,
    ) -> None:
        """`derived`: folder of derived graphs. `provider`: auto, cpu or cuda. `derive_sizes`:
        bytes of graphs that others are derived from for the CPU."""
        self._book = book
        self._derived = derived
        self._disk = disk
        self._provider = provider
        self._fingerprint = {**fingerprint, "wanted": provider}
        self._gpu = gpu
        self._now = now
        self._derive_sizes = derive_sizes

    def remembered(self, found: FoundModel) -> ProviderChoice | None:
        """The proof made earlier, where it counts still."""
        choice = self._book.load(found.ref)
        if choice is None or choice.fingerprint != self._fingerprint:
            return None
        if choice.variant and choice.variant not in {v.name for v in found.manifest.variants}:
            return None
        folder = self.derived_folder(found, choice.derived)
        if choice.derived and load_derived(folder.parent, folder.name, found.manifest) is None:
            return None
        return choice

    def choose(
        self,
        role: Role,
        found: FoundModel,
        settings: EngineSettings,
        trials: Trials,
        *,
        fresh: bool = False,
        keep: bool = True,
    ) -> ProviderChoice:
        """The remembered choice, or one made now (`fresh`: made now in any case) and kept.

        Without `keep` the state stays as it is, and graphs that were derived are gone again; none
        are for the CPU, since they compute what the original does.
        Raises the refusal of the first candidate when none passes.
        """
        choice = None if fresh else self.remembered(found)
        if choice is None and keep:
            choice = self._prove(role, found, settings, trials, self._derived)
            self._remember(found, choice)
        elif choice is None:
            with tempfile.TemporaryDirectory(prefix="funasr-agent-derived-") as folder:
                choice = self._prove(role, found, settings, trials, Path(folder))
        if not choice.variant:
            result = _own_refusal(choice)
            if not fresh and _crashed(choice):
                again = f"`funasr-agent models verify {found.ref.id}` tries it again"
                told = f"{result.message} (tried on {choice.decided}; {again})"
                result = replace(result, message=told)
            raise result.error()
        return choice

    def forget(self, found: FoundModel) -> None:
        """Have it proven again before it is loaded."""
        self._drop(self._derived / str(found.ref))
        try:
            self._book.forget(found.ref)
        except OSError as error:
            _log.warning("the choice for %s can't be removed: %s", found.ref, error)

    def derived_folder(self, found: FoundModel, derivation: str) -> Path:
        """Where the graphs of a derivation of this model lie."""
        return self._derived / str(found.ref) / derivation

    @staticmethod
    def request(
        found: FoundModel, role: Role, variant: str, provider: str, settings: EngineSettings
    ) -> TrialRequest:
        """What a trial of one variant is asked."""
        return TrialRequest(
            folder=str(found.folder),
            manifest_sha256=found.manifest.sha256,
            role=role,
            variant=variant,
            provider=provider,
            threads=settings.threads,
            gpu=asdict(settings.gpu),
            vad=dict(settings.vad),
        )

    def _prove(
        self,
        role: Role,
        found: FoundModel,
        settings: EngineSettings,
        trials: Trials,
        derived: Path,
    ) -> ProviderChoice:
        """`derived`: folder of derived graphs."""
        attempts: list[Attempt] = []
        reasons: list[str] = []
        passed: list[Attempt] = []
        for provider in self._providers(role, found, reasons):
            tried = 0
            # What is only looked at is not derived for: it would compute the same.
            sizes = self._derive_sizes if derived == self._derived else range(0)
            for candidate in candidates(role, found.manifest, provider, derive_sizes=sizes):
                request = self.request(found, role, candidate.variant.name, provider, settings)
                if candidate.derived:
                    folder = derived / str(found.ref) / candidate.derived
                    request = replace(request, derived=str(folder))
                attempt, gain = self._attempt(request, candidate, trials)
                if attempt.result.code == NothingToDo.code:
                    continue
                attempts.append(attempt)
                tried += 1
                if attempt.result.passed:
                    reasons += [f"{attempt.name}: {gain}"] if gain else []
                    passed.append(attempt)
                    reasons += _placement_words(attempt)
                    break
                reasons.append(f"{attempt.name} was refused: {attempt.result.message}")
            if not tried:
                reasons.append(f"the model has no variant for {provider}")
        best = self._best(passed, reasons)
        self._drop_others(derived / str(found.ref), best.derived if best else "")
        if not attempts:
            has = ", ".join(sorted({v.provider for v in found.manifest.variants}))
            raise CompatibilityError(
                f"it has no variant for this box, only for {has}: " + "; ".join(reasons)
            )
        return ProviderChoice(
            variant=best.variant if best else "",
            provider=best.provider if best else "",
            derived=best.derived if best else "",
            reasons=tuple(reasons),
            attempts=tuple(attempts),
            fingerprint=self._fingerprint,
            decided=self._now().replace(microsecond=0).isoformat(),
        )

    def _providers(self, role: Role, found: FoundModel, reasons: list[str]) -> Iterator[str]:
        """Providers worth trying."""
        has_cuda = any(v.provider == "cuda" for v in found.manifest.variants)
        if self._provider != "cpu" and (has_cuda or role != "vad"):
            gpu = self._gpu()
            if gpu.works:
                yield "cuda"
            else:
                reasons.append(f"CUDA is not used: {gpu.reason}")
        yield "cpu"

    def _attempt(
        self, request: TrialRequest, candidate: Candidate, trials: Trials
    ) -> tuple[Attempt, str]:
        """The attempt, and what graphs derived for the CPU gain, in words."""
        result, gain = TrialResult(), ""
        if candidate.derived:
            wanted = {
                "folder": request.folder,
                "manifest_sha256": request.manifest_sha256,
                "variant": request.variant,
                "derivation": candidate.derived,
                "target": str(Path(request.derived).parent),
                "role": request.role,
                "threads": request.threads,
                "vad": request.vad,
            }
            result = trials.derive(wanted, timeout_s=DERIVE_LIMIT_S)
            gain = result.message
        if result.passed:
            result = trials.run(request)
        if candidate.derived and not result.passed:
            self._drop(Path(request.derived))
        return Attempt(request.variant, request.provider, candidate.derived, result), gain

    def _drop_others(self, folder: Path, kept: str) -> None:
        """Remove the derived graphs of a model that were not chosen."""
        for name in sorted(DERIVED):
            if name != kept and (folder / name).exists():
                self._drop(folder / name)

    def _drop(self, folder: Path) -> None:
        """Remove derived graphs that are of no use."""
        try:
            self._disk.remove(folder)
        except OSError as error:
            _log.warning("%s can't be removed: %s", folder, error)

    def _best(self, passed: list[Attempt], reasons: list[str]) -> Attempt | None:
        if not passed:
            return None
        best = min(passed, key=lambda attempt: attempt.result.golden_s)
        if self._provider == "cuda" and passed[0].provider == "cuda":
            best = passed[0]
        for attempt in passed:
            speed = f"{attempt.result.golden_s * 1000:.1f} ms for {attempt.result.audio_s:.1f} s"
            if attempt is best:
                verdict = "was chosen"
            elif attempt.result.golden_s < best.result.golden_s:
                verdict = f"would be faster, but inference.provider is {self._provider}"
            else:
                verdict = "is slower"
            reasons.append(f"{attempt.name} passed and {verdict}: {speed} of audio")
        return best

    def _remember(self, found: FoundModel, choice: ProviderChoice) -> None:
        """Refusals are found out anew each time, but for crashes, which cost much time."""
        if ABORTED in {attempt.result.code for attempt in choice.attempts}:
            return
        if not choice.variant and not _crashed(choice):
            self.forget(found)
            return
        try:
            self._book.save(found.ref, choice)
        except OSError as error:
            _log.warning("the choice for %s can't be kept: %s", found.ref, error)


def _own_refusal(choice: ProviderChoice) -> TrialResult:
    """Of the first variant as the model has it: derived graphs fail with it, or on their own."""
    own = (attempt.result for attempt in choice.attempts if not attempt.derived)
    return next(own, choice.attempts[0].result)


def _crashed(choice: ProviderChoice) -> bool:
    return RuntimeCrash.code in {attempt.result.code for attempt in choice.attempts}


def _placement_words(attempt: Attempt) -> list[str]:
    """Said when a part of a graph that was meant for the GPU is computed on the CPU; the shape
    arithmetic, which belongs there, is not."""
    if not attempt.result.notes:
        return []
    nodes = attempt.result.nodes
    return [
        f"{attempt.name}: {', '.join(attempt.result.notes)} run on the CPU ({nodes.get('cpu', 0)} "
        f"of {sum(nodes.values())} nodes do), with copies around them; this provider has no "
        "kernels for them"
    ]
