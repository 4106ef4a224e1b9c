"""Refuse a set that would not fit before reading it."""

import os
from pathlib import Path

from bdp_ext.errors import UserError

SHARE = 0.7  # of the available memory that a decoded set may take


def require(images: int, height: int, width: int) -> None:
    """Raise UserError when so many uint8 RGB images exceed SHARE of the available memory."""
    need, free = images * 3 * height * width, available()
    if free is not None and need > SHARE * free:
        raise UserError(
            f"{images:,} images of {width}x{height} take {need / 2**30:.1f} GiB in memory and "
            f"{free / 2**30:.1f} GiB are free: give a smaller --image-size, a --subset, or, for a "
            f"folder of images, --stream."
        )


def available() -> int | None:
    """Bytes that can still be allocated, by the machine or its container. None: unknown."""
    candidates = [_machine(), _container()]
    return min((c for c in candidates if c is not None), default=None)


def _machine() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):  # not Linux; no sysconf on Windows
        return None


def _container() -> int | None:
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
        return None if limit == "max" else max(0, int(limit) - used)
    except (OSError, ValueError):
        return None
