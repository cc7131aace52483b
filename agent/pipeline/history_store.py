"""The history's database: finals with their times in SQLite, and the search over them.

Deleted words are really gone: SQLite overwrites them, `clean` takes them out of the search index
and the write-ahead log. Audio is never in it.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from agent.types import SpokenCommand, Transcript

FOREVER = float("inf")
TRIGRAM = 3
"""Shortest word that the search index finds; shorter ones are looked for row by row."""
_MERGE_PAGES = 500
"""Pages of the search index that one step of `clean` works on."""
_BUSY_S = 5.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS sessions (
    id TEXT PRIMARY KEY, source TEXT NOT NULL, name TEXT NOT NULL, mode TEXT NOT NULL,
    opened REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS finals (
    id INTEGER PRIMARY KEY AUTOINCREMENT, session TEXT NOT NULL, segment INTEGER NOT NULL,
    time REAL NOT NULL, start_ms INTEGER NOT NULL, end_ms INTEGER NOT NULL, text TEXT NOT NULL,
    language TEXT NOT NULL, details TEXT NOT NULL, UNIQUE (session, segment)
);
CREATE INDEX IF NOT EXISTS finals_time ON finals (time);
"""
_INDEX = "CREATE VIRTUAL TABLE finals_words USING fts5(text, content=finals, content_rowid=id, tokenize=trigram)"  # noqa: E501
_COLUMNS = (
    "f.id, f.segment, f.time, f.start_ms, f.end_ms, f.text, f.language, f.details, "
    "s.id, s.source, s.name, s.mode, s.opened"
)


@dataclass(frozen=True)
class KeptSession:
    """The stream that a final belongs to."""

    id: str
    source: str
    """`page`, `funasr`, `microphone`, `file`."""
    name: str
    """Name of the file, or what the client calls its stream."""
    mode: str
    opened: float
    """UNIX seconds."""


@dataclass(frozen=True)
class KeptFinal:
    """A final as it was shown. Its own times are in ms from the start of its stream."""

    session: KeptSession
    final: Transcript
    time: float
    """UNIX seconds at which it was written."""
    id: int = 0
    """Grows with time; 0 before it is written."""


@dataclass(frozen=True)
class Wanted:
    """Which finals; what is left out does not limit."""

    since: float = 0.0
    """UNIX seconds."""
    until: float = FOREVER
    words: str = ""
    """All of these, divided by spaces, occur in the text; case does not matter."""
    session: str = ""
    source: str = ""
    id: int | None = None
    before: int | None = None
    """Only finals with a smaller id."""
    limit: int = 100
    command: str = ""
    """Only finals that are this command."""


class HistoryStore:
    """One connection, used by one thread at a time. Methods raise sqlite3.Error and OSError."""

    def __init__(self, path: Path) -> None:
        """Open or make the database; a damaged one raises sqlite3.DatabaseError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        self._path = path
        self._db = sqlite3.connect(path, timeout=_BUSY_S, check_same_thread=False)
        try:
            self._set_up()
        except BaseException:
            self._db.close()
            raise

    @property
    def indexed(self) -> bool:
        """Whether SQLite has the search index; without it every search reads all rows."""
        return self._indexed

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def add(self, finals: Sequence[KeptFinal]) -> None:
        """Write finals in one transaction; they survive the end of the process."""
        with self._db:
            for kept in finals:
                session = kept.session
                self._db.execute(
                    "INSERT OR IGNORE INTO sessions VALUES (?, ?, ?, ?, ?)",
                    (session.id, session.source, session.name, session.mode, session.opened),
                )
                self._insert(kept)

    def delete(self, wanted: Wanted) -> int:
        """Delete finals, and sessions that have none left; how many finals. `clean` follows."""
        where, values = _conditions(wanted, self._indexed)
        chosen = f"SELECT f.id FROM finals f JOIN sessions s ON s.id = f.session WHERE {where}"
        return self._delete(chosen, values)

    def delete_oldest(self, count: int) -> int:
        """Delete that many of the oldest finals; how many there were."""
        return self._delete("SELECT id FROM finals ORDER BY id LIMIT ?", [count])

    def clean(self, first: bool) -> bool:
        """One step of taking deleted words out of the index and the log; False: nothing is left
        to do. `first`: the step after a deletion."""
        if self._indexed:
            before = self._db.total_changes
            pages = -_MERGE_PAGES if first else _MERGE_PAGES
            with self._db:
                self._db.execute(
                    "INSERT INTO finals_words(finals_words, rank) VALUES ('merge', ?)", [pages]
                )
            if self._db.total_changes - before >= 2:
                return True
        self._db.executescript("PRAGMA incremental_vacuum;")
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return False

    def count(self) -> int:
        """Finals in all."""
        return int(self._db.execute("SELECT count(*) FROM finals").fetchone()[0])

    def used_bytes(self) -> int:
        """Size of what is in it."""
        pages, free, size = (
            self._db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def _set_up(self) -> None:
        db = self._db
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("PRAGMA journal_mode = WAL").fetchall()
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA secure_delete = ON").fetchall()
        db.execute("PRAGMA journal_size_limit = 4194304").fetchall()
        found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError(f"malformed: {found}")
        db.executescript(_SCHEMA)
        self._indexed = self._make_index()

    def _make_index(self) -> bool:
        """Whether there is an index that knows every final."""
        db = self._db
        try:
            db.execute("CREATE VIRTUAL TABLE temp.probe USING fts5(a, tokenize=trigram)")
            db.execute("DROP TABLE temp.probe")
        except sqlite3.OperationalError:
            return False
        known = "SELECT 1 FROM sqlite_master WHERE name = 'finals_words'"
        with db:
            if db.execute(known).fetchone() is None:
                db.execute(_INDEX)
            newest = db.execute("SELECT max(id) FROM finals").fetchone()[0]
            if db.execute("SELECT max(id) FROM finals_words_docsize").fetchone()[0] != newest:
                db.execute("INSERT INTO finals_words(finals_words) VALUES ('rebuild')")
        return True

    def _insert(self, kept: KeptFinal) -> None:
        final = kept.final
        row = (kept.session.id, int(final.segment_id), kept.time, final.start_ms, final.end_ms)
        added = self._db.execute(
            "INSERT OR IGNORE INTO finals (session, segment, time, start_ms, end_ms, text, "
            "language, details) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*row, final.text, final.language, _details(final)),
        )
        if self._indexed and added.rowcount:
            self._db.execute(
                "INSERT INTO finals_words(rowid, text) VALUES (?, ?)", (added.lastrowid, final.text)
            )

    def _delete(self, chosen: str, values: Sequence[object]) -> int:
        with self._db:
            if self._indexed:
                self._db.execute(
                    "INSERT INTO finals_words(finals_words, rowid, text) "
                    f"SELECT 'delete', id, text FROM finals WHERE id IN ({chosen})",
                    values,
                )
            gone = self._db.execute(f"DELETE FROM finals WHERE id IN ({chosen})", values).rowcount
            self._db.execute("DELETE FROM sessions WHERE id NOT IN (SELECT session FROM finals)")
        return gone


def read(path: Path, wanted: Wanted, *, indexed: bool) -> list[KeptFinal]:
    """Finals, the newest first. Opens the database for reading only; raises sqlite3.Error."""
    where, values = _conditions(wanted, indexed)
    query = (
        f"SELECT {_COLUMNS} FROM finals f JOIN sessions s ON s.id = f.session "
        f"WHERE {where} ORDER BY f.id DESC LIMIT ?"
    )
    uri = f"{path.resolve().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_S)) as db:
        return [_kept(row) for row in db.execute(query, [*values, wanted.limit])]


def _conditions(wanted: Wanted, indexed: bool) -> tuple[str, list[object]]:
    terms: list[tuple[str, object]] = [("f.time >= ?", wanted.since)]
    if wanted.until != FOREVER:
        terms.append(("f.time < ?", wanted.until))
    if wanted.session:
        terms.append(("s.id = ?", wanted.session))
    if wanted.source:
        terms.append(("s.source = ?", wanted.source))
    if wanted.id is not None:
        terms.append(("f.id = ?", wanted.id))
    if wanted.before is not None:
        terms.append(("f.id < ?", wanted.before))
    if wanted.command:
        terms.append(("json_extract(f.details, '$.command.name') = ?", wanted.command))
    for word in wanted.words.split():
        if indexed and len(word) >= TRIGRAM:
            found = "f.id IN (SELECT rowid FROM finals_words WHERE finals_words MATCH ?)"
            terms.append((found, '"' + word.replace('"', '""') + '"'))
        else:
            terms.append((r"f.text LIKE ? ESCAPE '\'", f"%{_literal(word)}%"))
    return " AND ".join(term for term, _ in terms), [value for _, value in terms]


def _literal(word: str) -> str:
    return word.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_")


def _details(final: Transcript) -> str:
    """What is only handed on, as JSON."""
    fields: dict[str, object] = {}
    for name in ("tokens", "timestamps", "spoken", "emotion", "event"):
        if value := getattr(final, name):
            fields[name] = value
    if final.command is not None:
        fields["command"] = asdict(final.command)
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


def _kept(row: Sequence[object]) -> KeptFinal:
    number, segment, time, start_ms, end_ms, text, language, details, *session = row
    fields = json.loads(str(details))
    of = KeptSession(*session)  # type: ignore[arg-type]
    final = Transcript(
        of.id,
        segment,  # type: ignore[arg-type]
        str(text),
        True,
        start_ms,  # type: ignore[arg-type]
        end_ms,  # type: ignore[arg-type]
        tuple(fields.get("tokens", ())),
        tuple((start, end) for start, end in fields.get("timestamps", ())),
        str(language),
        fields.get("emotion", ""),
        fields.get("event", ""),
        fields.get("spoken", ""),
        SpokenCommand(**fields["command"]) if "command" in fields else None,
    )
    return KeptFinal(of, final, time, number)  # type: ignore[arg-type]
