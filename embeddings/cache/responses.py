"""What an endpoint answered, kept one by one: what is answered is never sent again.

SQLite, because each answer is a small row that may have cost money: it is on disk before the next
question goes out, and a process killed at any moment leaves a sound file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from common.errors import Code, UserError
from common.files import write_json
from embeddings.prompts.pairs import PackedPair

FILE = "answers.sqlite"

TABLE = (
    "CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, a REAL NOT NULL, b REAL NOT NULL, "
    "tie REAL NOT NULL, unseen INTEGER NOT NULL) WITHOUT ROWID"
)


class ResponseCache:
    """The answers of one folder, which belongs to one settings hash; a context manager."""

    def __init__(self, folder: Path, settings: Mapping[str, object]) -> None:
        """Open or begin it.

        Args:
            folder: where the file lies.
            settings: what the folder's name is the hash of, kept beside it for people.

        Raises:
            UserError: the file is damaged, or cannot be opened or written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "settings.json", dict(settings))
        self.path = folder / FILE
        try:
            self._file = sqlite3.connect(self.path, timeout=60, isolation_level=None)
        except sqlite3.OperationalError as error:
            raise self._mistake(error) from error
        # With a write-ahead log a commit costs no wait for the disk, and outlives a kill.
        for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = NORMAL", TABLE):
            self._run(statement)

    def __enter__(self) -> ResponseCache:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def begun(self) -> bool:
        """Whether there is an answer."""
        return bool(self._run("SELECT key FROM answers LIMIT 1"))

    def missing(self, sequences: Sequence[PackedPair]) -> list[PackedPair]:
        """Those that have no answer yet, in their order."""
        known = {row[0] for row in self._run("SELECT key FROM answers")}
        return [s for s in sequences if s.key not in known]

    def add(self, key: bytes, log_probs: np.ndarray, unseen: int) -> None:
        """Keep an answer: log-probabilities (3,), and how many of them are a floor."""
        row = (key, *log_probs.tolist(), unseen)
        self._run("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?)", row)

    def get(self, sequences: Sequence[PackedPair]) -> tuple[np.ndarray, np.ndarray]:
        """The answers of these sequences, which may repeat.

        Returns:
            Log-probabilities float32 (n, 3), and how many of each row are a floor, int64 (n,).

        Raises:
            KeyError: one is not there.
        """
        known = {row[0]: row[1:] for row in self._run("SELECT key, a, b, tie, unseen FROM answers")}
        rows = np.array([known[s.key] for s in sequences], dtype=np.float64).reshape(-1, 4)
        return rows[:, :3].astype(np.float32), rows[:, 3].astype(np.int64)

    def _run(self, statement: str, row: Sequence[object] = ()) -> list[tuple[bytes, float]]:
        try:
            return self._file.execute(statement, row).fetchall()
        except sqlite3.DatabaseError as error:
            raise self._mistake(error) from error

    def _mistake(self, error: sqlite3.DatabaseError) -> UserError:
        advice = (
            "Fix this, let no other verdict.py work on it, and rerun the command; what it holds "
            "stays."
        )
        if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            advice = "Delete it to send everything again."
        return UserError(Code.RESPONSES_UNUSABLE, f"{self.path} cannot be used ({error}). {advice}")
