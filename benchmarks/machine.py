"""What a measurement was made on, and with."""

import os
import platform
from importlib import metadata
from pathlib import Path

import kdpm2

PACKAGES = ["torch", "diffusers", "k-diffusion", "numpy", "triton"]


def memory() -> int:
    """The machine's memory in bytes, 0 where the system does not say."""
    if not hasattr(os, "sysconf"):
        return 0
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def described() -> dict[str, str]:
    """The processor, its cores and the memory, and the GPU if torch can use one."""
    import torch

    machine = {
        "CPU": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{memory() / 2**30:.0f} GiB" if memory() else "unknown",
    }
    return machine | ({"GPU": torch.cuda.get_device_name()} if torch.cuda.is_available() else {})


def versions() -> dict[str, str]:
    """Of Python, kdpm2, and what else is there of `PACKAGES`."""
    found = {"Python": platform.python_version(), "kdpm2": kdpm2.__version__}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
