"""Packages that may be absent: the extras' own, imported where they are used."""

from functools import cache
from importlib import import_module
from typing import Any

from cosmos_tokenizer import InputError


@cache
def installed(module: str, extra: str) -> Any:  # noqa: ANN401 - a package that may be absent
    """A module of an extra.

    Raises:
        InputError: it does not import; the extra is named.
    """
    try:
        return import_module(module)
    except Exception as error:  # Transformer Engine raises RuntimeError where CUDA's libraries are not there.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f'backend {extra!r} needs {module}: pip install --no-build-isolation "cosmos-diffusion[{extra}]" ({reason})'
        ) from error
