"""How much memory this process and the machine's GPUs use."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_STATM = Path("/proc/self/statm")
_NVIDIA_SMI_SECONDS = 5
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU of the machine; memory in bytes."""

    index: int
    name: str
    used_bytes: int
    total_bytes: int


def resident_bytes() -> int:
    """Return this process's resident memory; 0 where the kernel does not say."""
    try:
        pages = int(_STATM.read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def machine_bytes() -> int:
    """Return the machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def gpus() -> list[Gpu]:
    """Return the GPUs that NVIDIA's tool tells of; none where it is not installed or fails."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    fields = "--query-gpu=index,name,memory.used,memory.total"
    try:
        done = subprocess.run(
            [tool, fields, "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=_NVIDIA_SMI_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [gpu for line in done.stdout.splitlines() if (gpu := _gpu(line)) is not None]


def _gpu(line: str) -> Gpu | None:
    """Read `0, NVIDIA H200, 512, 143771`; None if it is something else, such as `[N/A]`."""
    index, _, rest = line.partition(",")
    name, used, total = [part.strip() for part in rest.rsplit(",", 2)] if "," in rest else [""] * 3
    if not (index.strip().isdecimal() and used.isdecimal() and total.isdecimal()):
        return None
    return Gpu(int(index), name, int(used) * MIB, int(total) * MIB)
