"""Training of the Cosmos family: one loop, recipes, pools and baselines; anything not named here may change.

A name is imported when it is first used, since all of them bring torch, which takes seconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from cosmos_posttrain._version import __version__ as __version__

if TYPE_CHECKING:
    from cosmos_posttrain.averages import Average as Average
    from cosmos_posttrain.block_pca import BlockPCA as BlockPCA
    from cosmos_posttrain.loop import Batches as Batches
    from cosmos_posttrain.loop import LoopConfig as LoopConfig
    from cosmos_posttrain.loop import Objective as Objective
    from cosmos_posttrain.loop import train as train
    from cosmos_posttrain.optimizers import OptimizerConfig as OptimizerConfig
    from cosmos_posttrain.optimizers import ParameterGroup as ParameterGroup
    from cosmos_posttrain.parallel import Parallel as Parallel
    from cosmos_posttrain.parallel import ParallelConfig as ParallelConfig
    from cosmos_posttrain.schedules import Schedule as Schedule

__all__ = [
    "Average",
    "Batches",
    "BlockPCA",
    "LoopConfig",
    "Objective",
    "OptimizerConfig",
    "Parallel",
    "ParallelConfig",
    "ParameterGroup",
    "Schedule",
    "__version__",
    "train",
]

# No name here may be that of a module of the package: importing the module would take its place.
_HOMES = {
    "Average": "averages",
    "Batches": "loop",
    "BlockPCA": "block_pca",
    "LoopConfig": "loop",
    "Objective": "loop",
    "OptimizerConfig": "optimizers",
    "Parallel": "parallel",
    "ParallelConfig": "parallel",
    "ParameterGroup": "optimizers",
    "Schedule": "schedules",
    "train": "loop",
}

if not TYPE_CHECKING:  # to a type checker, a module with this function has every name

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
