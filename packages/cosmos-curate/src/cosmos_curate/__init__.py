"""Curation of video for world models (arXiv 2501.03575, section 3); anything not named here may change.

A name is imported when it is first used: some of them bring FFmpeg's libraries and OpenCV.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from cosmos_curate._version import __version__ as __version__
from cosmos_curate.errors import InputError as InputError
from cosmos_curate.errors import Unusable as Unusable

if TYPE_CHECKING:
    from cosmos_curate.captions.captioner import Captioner as Captioner
    from cosmos_curate.captions.captioner import check_captioner as check_captioner
    from cosmos_curate.config import RunConfig as RunConfig
    from cosmos_curate.engine.executor import Executor as Executor
    from cosmos_curate.engine.executor import check_executor as check_executor
    from cosmos_curate.media.frames import Frames as Frames
    from cosmos_curate.media.frames import Sampling as Sampling
    from cosmos_curate.pipeline import run as run
    from cosmos_curate.rules import Rule as Rule
    from cosmos_curate.select_again import select as select
    from cosmos_curate.stage import Item as Item
    from cosmos_curate.stage import Resources as Resources
    from cosmos_curate.stage import Stage as Stage
    from cosmos_curate.stage import check_stage as check_stage

__all__ = [
    "Captioner",
    "Executor",
    "Frames",
    "InputError",
    "Item",
    "Resources",
    "Rule",
    "RunConfig",
    "Sampling",
    "Stage",
    "Unusable",
    "__version__",
    "check_captioner",
    "check_executor",
    "check_stage",
    "run",
    "select",
]

_HOMES = {
    "Captioner": "captions.captioner",
    "Executor": "engine.executor",
    "Frames": "media.frames",
    "Item": "stage",
    "Resources": "stage",
    "Rule": "rules",
    "RunConfig": "config",
    "Sampling": "media.frames",
    "Stage": "stage",
    "check_captioner": "captions.captioner",
    "check_executor": "engine.executor",
    "check_stage": "stage",
    "run": "pipeline",
    "select": "select_again",
}

if not TYPE_CHECKING:  # to a type checker, a module with this function has every name

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
