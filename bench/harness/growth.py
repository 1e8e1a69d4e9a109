"""Does a process grow? Samples of its memory and descriptors over time, and the straight line through them."""

from __future__ import annotations

import math
import os
import statistics
from dataclasses import dataclass, field
from pathlib import Path

# A line through fewer points says nothing.
SAMPLES_MIN = 6
# How many standard errors of the fit a growth has to be above its limit: load is random, and so are samples.
ERRORS_MIN = 2.0


@dataclass
class Series:
    """One quantity of one process over time."""

    times: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def add(self, time: float, value: float) -> None:
        self.times.append(time)
        self.values.append(value)

    def after(self, time: float) -> Series:
        kept = [(at, value) for at, value in zip(self.times, self.values) if at >= time]
        return Series([at for at, _ in kept], [value for _, value in kept])

    def growth(self) -> Growth | None:
        """From the first sample to the last, along the least-squares line; None with too few samples."""
        count = len(self.times)
        if count < SAMPLES_MIN:
            return None
        mean_time, mean_value = statistics.fmean(self.times), statistics.fmean(self.values)
        points = [(time - mean_time, value - mean_value) for time, value in zip(self.times, self.values)]
        spread = sum(x * x for x, _ in points)
        slope = sum(x * y for x, y in points) / spread
        squares = sum((y - slope * x) ** 2 for x, y in points)
        error = math.sqrt(squares / (count - 2) / spread)
        duration = self.times[-1] - self.times[0]
        return Growth(mean_value + slope * points[0][0], slope * duration, error * duration)


@dataclass(frozen=True)
class Growth:
    """Along the line."""

    start: float
    by: float
    error: float
    """Standard error of `by`."""

    def is_above(self, limit: float) -> bool:
        """Whether it is, and not by chance."""
        return self.by - ERRORS_MIN * self.error > limit


def rss_bytes(pid: int) -> int:
    """Resident memory. Raises OSError when the process is gone."""
    resident_pages = Path("/proc", str(pid), "statm").read_text().split()[1]
    return int(resident_pages) * os.sysconf("SC_PAGE_SIZE")


def descriptors(pid: int) -> int:
    """Open ones. Raises OSError when the process is gone."""
    return len(os.listdir(f"/proc/{pid}/fd"))
