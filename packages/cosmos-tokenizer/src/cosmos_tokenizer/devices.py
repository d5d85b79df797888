"""Where tensors live: the device that a person names, if this machine has it, or the one that ``torchrun`` gives."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from cosmos_tokenizer.errors import InputError


def available_device(name: str | torch.device) -> torch.device:
    """The device of a name such as "cpu", "cuda" or "cuda:1", after putting one number on it.

    Raises:
        InputError: this machine or this build of torch has no such device, or it holds no values ("meta").
        torch.OutOfMemoryError: it is there and full.
    """
    try:
        device = torch.device(name)
        there = device.type != "meta" and torch.zeros(1, device=device).numel() == 1
    except torch.OutOfMemoryError:
        raise
    except (AssertionError, AttributeError, ImportError, RuntimeError, ValueError) as error:
        raise InputError(_refusal(name)) from error
    if not there:
        raise InputError(_refusal(name))
    return device


@contextmanager
def processes() -> Iterator[None]:
    """Join the processes that ``torchrun`` started, and leave them at the end; without ``torchrun``, do nothing.

    Each takes the CUDA device of its number on this machine, where there are any.
    """
    if not dist.is_torchelastic_launched() or dist.is_initialized():
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def _refusal(name: str | torch.device) -> str:
    return f"device is {str(name)!r}, and torch has none such here: use one of {', '.join(_present())}"


def _present() -> list[str]:
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    count = 0 if accelerator is None else torch.accelerator.device_count()
    return ["cpu", *(f"{accelerator.type}:{index}" for index in range(count) if accelerator is not None)]
