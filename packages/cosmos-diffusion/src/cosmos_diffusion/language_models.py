"""Language models through transformers (extra ``t5``): imported when used, and one line for what cannot be read."""

import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import torch
from torch import nn

from cosmos_tokenizer import InputError

FloatType = Literal["float32", "bfloat16"]

T = TypeVar("T")

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


def transformers_library() -> Any:  # noqa: ANN401 - a package that may be absent
    """The module.

    Raises:
        InputError: it is not installed.
    """
    try:
        return import_module("transformers")
    except ImportError as error:
        raise InputError(
            'language models need transformers: pip install "cosmos-diffusion[t5]"; or use embeddings from a file'
        ) from error


def float_type(name: str) -> torch.dtype:
    """dtype of a name.

    Raises:
        InputError: models are not read as such.
    """
    if name not in get_args(FloatType):
        raise InputError(f"weights are to be {name!r}: use {' or '.join(get_args(FloatType))}")
    return getattr(torch, name)


def pretrained(read: Callable[..., T], source: str, what: str, **options: Any) -> T:  # noqa: ANN401 - of transformers
    """What a ``from_pretrained`` gives of a folder or a hub id.

    Raises:
        InputError: it cannot be read, in one line.
    """
    if not Path(source).exists() and not _HUB_ID.fullmatch(source):
        raise InputError(f"{source}: no {what} can be read there, for there is no such folder; give one, or a hub id")
    try:
        return read(source, **options)
    except (torch.OutOfMemoryError, MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:  # transformers and what it calls raise anything for a damaged file
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = (lines or [type(error).__name__])[0][:200]
        raise InputError(f"{source}: no {what} can be read there ({reason}); give a folder or a hub id") from error


def pretrained_model(
    kind: Any,  # noqa: ANN401 - a class of transformers
    source: str,
    what: str,
    *,
    dtype: torch.dtype,
    subfolder: str = "",
) -> nn.Module:
    """The whole of a model, in eval mode on the CPU; transformers itself would fill up what is missing at random.

    Raises:
        InputError: it cannot be read, or weights are missing or of another shape.
    """
    found, report = pretrained(
        kind.from_pretrained, source, what, dtype=dtype, subfolder=subfolder, output_loading_info=True
    )
    wrong = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
    if wrong:
        raise InputError(
            f"{source}: {len(wrong)} weights are missing or misshapen, the first {wrong[0]}; copy it again"
        )
    return found.eval()
