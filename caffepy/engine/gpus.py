"""GPUs: how many there are, and why there may be none."""

from __future__ import annotations

from importlib.util import find_spec

from caffepy.errors import ConfigError, MissingExtraError


def gpu_count() -> int:
    """How many GPUs PyTorch can use; 0 where it is not installed."""
    if find_spec("torch") is None:
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def check_gpu(index: int) -> None:
    """Raises MissingExtraError or ConfigError where there is no GPU `index`. Takes no memory there."""
    if find_spec("torch") is None:
        raise MissingExtraError("torch", "torch", "computing on a GPU")
    count = gpu_count()
    if not count:
        raise ConfigError("PyTorch finds no GPU on this machine", hint=no_gpu_hint())
    if not 0 <= index < count:
        raise ConfigError(f"there is no GPU {index}", hint=f"This machine has {count}, numbered from 0.")


def no_gpu_hint() -> str:
    """What to do where PyTorch is installed and finds no GPU."""
    import torch

    if torch.version.cuda is None and torch.version.hip is None:
        return "The installed PyTorch is built for the CPU alone: see pytorch.org for one for your GPU."
    return "Check the driver with nvidia-smi, or leave out --gpu."
