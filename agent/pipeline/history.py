"""The history: every final of every source, written before it is shown, searched and deleted.

One thread writes. Whatever happens to the disk or the database, transcription goes on: `trouble`
says what is wrong, and finals wait in memory until they can be written.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from agent.config import History as HistorySettings
from agent.errors import HistoryOff, NotReady
from agent.pipeline.history_files import aside, remove_files, set_aside
from agent.pipeline.history_store import HistoryStore, KeptFinal, KeptSession, Wanted, read
from agent.said import say, say_all
from agent.types import Transcript

_log = logging.getLogger(__name__)

SHOWN_AFTER_S = 1.0
"""A final waits so long for the disk before it is shown all the same."""
WAITING_MOST = 2000
"""Finals that wait in memory while the disk takes none; beyond it the oldest are lost, and said."""
RETRY_S = 5.0
"""Between tries to write, after one that failed."""
TIDY_S = 600.0
"""How often finals are looked for that are too old."""
DELETE_S = 120.0
"""A deletion that takes longer goes on unattended."""
_SPARE = 0.9
"""Share of `history.max_mb` that is left when the oldest finals go."""
_DAY_S = 86400.0
_DAMAGE = ("malformed", "not a database", "unsupported file format")


class FinalKeeper(Protocol):
    """Where streams put their finals."""

    async def keep(self, session: KeptSession, final: Transcript) -> None:
        """Keep a final; returns when it may be shown. Never raises for the disk's sake."""


class NoHistory:
    """Keeps nothing."""

    async def keep(self, session: KeptSession, final: Transcript) -> None:
        """Ignored."""


@dataclass
class _Deletion:
    """A deletion on its way; `done` gets the number of finals."""

    wanted: Wanted
    everything: bool
    done: asyncio.Future[int]
    count: int = 0


class History:
    """The history of one box. `start` and `close` on the loop, as all the rest."""

    def __init__(
        self,
        path: Path,
        settings: HistorySettings,
        clock: Callable[[], float] = time.time,
        open_store: Callable[[Path], HistoryStore] = HistoryStore,
    ) -> None:
        self.enabled = settings.enabled
        self._path = path
        self._settings = settings
        self._clock = clock
        self._open_store = open_store
        self._changed = threading.Condition()
        self._waiting: deque[tuple[KeptFinal, asyncio.Future[None]]] = deque()
        self._deletions: deque[_Deletion] = deque()
        self._cleaning: list[_Deletion] | None = None
        self._first_step = True
        self._stopping = False
        self._store: HistoryStore | None = None
        self._indexed = False
        self._problem = ""
        self._aside = ""
        self._lost = 0
        self._tidied = float("-inf")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to write, unless the history is off."""
        if not self.enabled:
            return
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, name="history", daemon=True)
        self._thread.start()

    async def close(self, timeout_s: float = 5.0) -> None:
        """Write what waits and end; idempotent."""
        if self._thread is None:
            return
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        await asyncio.to_thread(self._thread.join, timeout_s)

    def trouble(self) -> str:
        """What is wrong in words; empty when all is well."""
        if not self.enabled:
            return ""
        said: list[str] = []
        if self._problem:
            why = "the history can't be written: {why}"
            said.append(say("history_fails", why, why=self._problem))
        if self._problem and self._waiting:
            waiting = "{n} finals wait in memory"
            said.append(say("history_waiting", waiting, n=len(self._waiting)))
        if self._lost:
            missing = "{n} finals are missing from the history"
            said.append(say("history_lost", missing, n=self._lost))
        if self._aside:
            said.append(self._aside)
        return say_all(said) if said else ""

    def status(self) -> dict[str, Any]:
        """For /api/v1/status."""
        return {
            "enabled": self.enabled,
            "keep_days": self._settings.keep_days,
            "max_mb": self._settings.max_mb,
            "trouble": self.trouble() or None,
        }

    async def keep(self, session: KeptSession, final: Transcript) -> None:
        """Write a final; returns once it would survive the end of this process, or after a second
        at most when the disk is slow. With `history: off` nothing is written."""
        loop = self._loop
        if loop is None or not final.text.strip():
            return
        written: asyncio.Future[None] = loop.create_future()
        with self._changed:
            if len(self._waiting) >= WAITING_MOST:
                _, oldest = self._waiting.popleft()
                self._resolve(oldest, None)
                self._lost += 1
            self._waiting.append((KeptFinal(session, final, self._clock()), written))
            self._changed.notify_all()
        if not self._problem:
            await asyncio.wait({written}, timeout=SHOWN_AFTER_S)

    async def search(self, wanted: Wanted) -> list[KeptFinal]:
        """Finals, the newest first. Raises HistoryOff, NotReady."""
        if not self.enabled:
            raise HistoryOff("the history is off (history: off)")
        if not self._path.exists():
            return []
        try:
            return await asyncio.to_thread(read, self._path, wanted, indexed=self._indexed)
        except sqlite3.Error as error:
            raise NotReady(f"the history can't be read: {error}; /health says more") from None

    async def delete(self, wanted: Wanted, *, everything: bool = False) -> int:
        """Delete finals so that their words are gone from the disk; how many.

        `everything`: whatever is there, copies of damaged databases included; also with the
        history off. Raises HistoryOff, NotReady when it can't be done, or not yet.
        """
        if self._loop is None:
            if not everything:
                raise HistoryOff("the history is off (history: off)")
            return await asyncio.to_thread(remove_files, self._path)
        deletion = _Deletion(wanted, everything, self._loop.create_future())
        with self._changed:
            self._deletions.append(deletion)
            self._changed.notify_all()
        try:
            return await asyncio.wait_for(asyncio.shield(deletion.done), DELETE_S)
        except asyncio.TimeoutError:
            raise NotReady("the deletion takes long and goes on; look again later") from None

    def _work(self) -> None:
        """The thread's loop."""
        while True:
            with self._changed:
                self._changed.wait_for(self._has_work, timeout=TIDY_S)
                stopping = self._stopping
            failed = self._step()
            if stopping and (failed or not self._waiting):
                break
            if failed:
                with self._changed:
                    self._changed.wait_for(lambda: self._stopping, timeout=RETRY_S)
        if self._store is not None:
            self._store.close()

    def _has_work(self) -> bool:
        return bool(
            self._waiting
            or self._deletions
            or self._stopping
            or self._cleaning is not None
            or self._store is None
        )

    def _step(self) -> bool:
        """Do what there is to do; whether it failed."""
        try:
            if self._store is None:
                self._store = self._open_store(self._path)
                self._indexed = self._store.indexed
            self._write(self._store)
            self._tidy(self._store)
            self._delete(self._store)
            self._clean(self._store)
        except (sqlite3.Error, OSError) as error:
            return self._failed(error)
        self._problem = ""
        return False

    def _write(self, store: HistoryStore) -> None:
        with self._changed:
            batch = list(self._waiting)
        if not batch:
            return
        store.add([kept for kept, _ in batch])
        with self._changed:
            # The oldest may have been given up meanwhile.
            done = {id(written) for _, written in batch}
            while self._waiting and id(self._waiting[0][1]) in done:
                self._waiting.popleft()
        for _, written in batch:
            self._resolve(written, None)

    def _delete(self, store: HistoryStore) -> None:
        while self._deletions:
            deletion = self._deletions[0]
            deletion.count = store.delete(deletion.wanted)
            if deletion.everything:
                for path in aside(self._path):
                    path.unlink(missing_ok=True)
                self._aside = ""
            self._deletions.popleft()
            self._must_clean().append(deletion)

    def _tidy(self, store: HistoryStore) -> None:
        """Let go what is too old, and the oldest when there is too much."""
        settings, now = self._settings, self._clock()
        if self._cleaning is not None:
            return
        if settings.keep_days and not 0 <= now - self._tidied < TIDY_S:
            self._tidied = now
            if store.delete(Wanted(until=now - settings.keep_days * _DAY_S)):
                self._must_clean()
        used, most = store.used_bytes(), settings.max_mb << 20
        if used > most:
            share = 1 - _SPARE * most / used
            store.delete_oldest(max(1, round(store.count() * share)))
            self._must_clean()

    def _must_clean(self) -> list[_Deletion]:
        if self._cleaning is None:
            self._cleaning = []
        self._first_step = True
        return self._cleaning

    def _clean(self, store: HistoryStore) -> None:
        if self._cleaning is None:
            return
        first, self._first_step = self._first_step, False
        if store.clean(first):
            return
        done, self._cleaning = self._cleaning, None
        for deletion in done:
            self._resolve(deletion.done, deletion.count)

    def _failed(self, error: sqlite3.Error | OSError) -> bool:
        """Let nobody wait; a damaged database is set aside. Whether to try again later only."""
        reason = str(error) or type(error).__name__
        if self._store is not None:
            self._store.close()
            self._store = None
        if isinstance(error, sqlite3.Error) and any(word in reason for word in _DAMAGE):
            try:
                kept = set_aside(self._path, self._clock())
            except OSError as problem:
                reason = f"{reason}; it can't be set aside: {problem}"
            else:
                again = bool(self._aside)
                self._aside = say(
                    "history_damaged",
                    "the history was damaged ({why}) and is kept as {name}; a new one was begun",
                    why=reason,
                    name=kept.name,
                )
                _log.error("%s", self._aside)
                return again  # a disk that spoils every file is not tried without a pause
        if self._problem != reason:
            _log.error("the history can't be written: %s; transcription goes on", reason)
        self._problem = reason
        with self._changed:
            waiting = list(self._waiting)
            refused = [*self._deletions, *(self._cleaning or ())]
            self._deletions.clear()
            self._cleaning = [] if self._cleaning is not None else None
        for _, written in waiting:
            self._resolve(written, None)
        for deletion in refused:
            self._resolve(deletion.done, NotReady(f"nothing could be deleted: {reason}"))
        return True

    def _resolve(self, future: asyncio.Future[Any], result: object) -> None:
        def tell() -> None:
            if future.done():
                return
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)

        assert self._loop is not None
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(tell)
