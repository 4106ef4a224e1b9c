"""Refuse a set that would not fit before reading it."""

from contextlib import suppress
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
    found = []
    with suppress(OSError, StopIteration):  # not Linux
        lines = Path("/proc/meminfo").read_text().splitlines()
        machine = next(line for line in lines if line.startswith("MemAvailable:"))
        found.append(int(machine.split()[1]) * 1024)
    with suppress(OSError, ValueError):  # no container, or "max": without a limit
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text())
        found.append(max(0, limit - int((group / "memory.current").read_text())))
    return min(found, default=None)
