"""Training of the Cosmos family: one loop, recipes, pools and baselines; anything not named here may change."""

from cosmos_posttrain._version import __version__ as __version__
from cosmos_posttrain.block_pca import BlockPCA as BlockPCA
from cosmos_posttrain.loop import LoopConfig as LoopConfig
from cosmos_posttrain.loop import Objective as Objective
from cosmos_posttrain.loop import train as train

__all__ = ["BlockPCA", "LoopConfig", "Objective", "__version__", "train"]
