"""What became of each exchange of a soak, and whether a worker that was killed on purpose may be blamed for it."""

from __future__ import annotations

import threading
import time
from collections import Counter

KILL_SECONDS = 1.0
"""How long after a kill a connection may end: the kernel ends it at once, and clients look often enough."""
SHOWN_MAX = 20


class Ended(Exception):
    """The server's end of a connection went away while something was under way on it, or while it was idle."""


class Ledger:
    """Kept by many client threads at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kills: list[float] = []
        self.right: Counter[str] = Counter()
        """Exchanges whose answer was checked and right, by the kind of client."""
        self.cut: Counter[str] = Counter()
        """Those that ended with a kill, which is allowed."""
        self.failed: Counter[str] = Counter()
        self.failures: list[str] = []
        """The first of them, for people."""

    @property
    def kills(self) -> int:
        return len(self._kills)

    def summary(self) -> str:
        right, cut, failed = (sum(counts.values()) for counts in (self.right, self.cut, self.failed))
        return f"{right:,} right, {self.kills} kills, {cut} cut by them, {failed} failed"

    def record_kill(self) -> None:
        """To be called before the signal is sent: what ends after it ends after this moment."""
        with self._lock:
            self._kills.append(time.monotonic())

    def has_just_killed(self) -> bool:
        with self._lock:
            return bool(self._kills) and time.monotonic() - self._kills[-1] <= KILL_SECONDS

    def record_right(self, kind: str) -> None:
        with self._lock:
            self.right[kind] += 1

    def record_end(self, kind: str, error: Ended) -> None:
        """Allowed shortly after a kill, and at no other time."""
        if self.has_just_killed():
            with self._lock:
                self.cut[kind] += 1
        else:
            self.record_failure(kind, str(error))

    def record_failure(self, kind: str, text: str) -> None:
        with self._lock:
            self.failed[kind] += 1
            if len(self.failures) < SHOWN_MAX:
                self.failures.append(f"{kind}: {text}")
