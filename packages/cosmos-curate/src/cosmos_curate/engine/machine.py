"""What this machine has to share out."""

import os
from pathlib import Path

from cosmos_curate.errors import InputError
from cosmos_curate.stage import Resources


def machine(*, cpus: int | None = None, gpus: int | float | None = None, network: int = 32) -> Resources:
    """Return cores, GPUs, decoders (as many as GPUs) and connections; what is not given is counted.

    Raises:
        InputError: a number is out of range.
    """
    if cpus is not None and cpus < 1:
        raise InputError(f"cpus {cpus} is below 1")
    if gpus is not None and gpus < 0:
        raise InputError(f"gpus {gpus} is below 0")
    if network < 1:
        raise InputError(f"network {network} is below 1: at least one request at a time")
    if gpus is None:
        gpus = count_gpus()
    return Resources(cpus=cpus or count_cpus(), gpus=gpus, nvdec=gpus, network=network)


def count_cpus() -> int:
    """Return the cores that this process may use, a container's share of them counted."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):
        return cores


def count_gpus() -> int:
    """Return the CUDA devices that this process may use, without starting CUDA."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() not in ("", "-1", "NoDevFiles")])
    folder = "/proc/driver/nvidia/gpus"
    return len(os.listdir(folder)) if os.path.isdir(folder) else 0
