"""Diffusion world models (arXiv 2501.03575, section 5.1): the public face; anything not named here may change.

Public modules: ``pipelines``, from text or video to video, and ``long_video`` and ``rollout`` for longer ones; ``nn``,
the parts that the family's transformers share; ``samplers`` and ``sigmas``, ``guidance``, ``preconditioning`` and
``conditioning``; ``noise``, ``domains`` and ``loss``, for training; ``defaults``, ``text_encoders``, ``upsampling`` and
``embedding_files``; ``lora`` and ``step_cache``; ``decoder``, of discrete tokens, ``wan``, a codec, and ``codecs``;
``parallel``, ``paging``, ``quantised``, ``residency``, ``memory`` and ``operations``. A name below is imported when it
is first used, since most of them bring torch, which takes seconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from cosmos_diffusion._version import __version__ as __version__

if TYPE_CHECKING:
    from cosmos_diffusion.checkpoint import load as load
    from cosmos_diffusion.checkpoint import save as save
    from cosmos_diffusion.config import DiTConfig as DiTConfig
    from cosmos_diffusion.conversion import convert as convert
    from cosmos_diffusion.network import DiT as DiT
    from cosmos_diffusion.presets import PRESETS as PRESETS
    from cosmos_diffusion.world_model import WorldModel as WorldModel

__all__ = ["PRESETS", "DiT", "DiTConfig", "WorldModel", "__version__", "convert", "load", "save"]

# No name here may be that of a module of the package: importing the module would take its place.
_HOMES = {
    "PRESETS": "presets",
    "DiT": "network",
    "DiTConfig": "config",
    "WorldModel": "world_model",
    "convert": "conversion",
    "load": "checkpoint",
    "save": "checkpoint",
}

if not TYPE_CHECKING:  # to a type checker, a module with this function has every name

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
