"""AutoShot (arXiv 2304.06116) by onnxruntime, with weights by path: the authors share them outside of any package.

The network sees the same windows as TransNet V2. Run as a module it exports the weights.
"""

import sys
from pathlib import Path

from cosmos_curate.errors import InputError
from cosmos_curate.models.cache import exported
from cosmos_curate.shots.exporting import export_apart, load, write
from cosmos_curate.shots.transnetv2 import open_exported
from cosmos_curate.shots.windows import Run

VERSION = 2


def export(weights: Path, target: Path) -> None:
    """Write the network with these weights to `target` as ONNX.

    Raises:
        InputError: the file is not the published checkpoint, or one of the same layout.
    """
    export_apart("cosmos_curate.shots.autoshot", weights, target)


def open_network(weights: Path) -> Run:
    """Return the network, exported at first use into the user's cache.

    Args:
        weights: the authors' checkpoint `ckpt_0_200_0.pth` (github.com/wentaozhu/AutoShot, MIT licence).

    Raises:
        InputError: there is no such file, or it holds something else.
    """
    if not weights.is_file():
        raise InputError(f"no weights of AutoShot at {weights}: the authors' README says where ckpt_0_200_0.pth is")
    return open_exported(exported("autoshot", VERSION, weights, export))


def _main(weights: str, target: str) -> None:
    from cosmos_curate.shots.autoshot_network import AutoShot, renamed

    network = AutoShot()
    load(network, weights, "AutoShot", renamed)
    write(network, target)


if __name__ == "__main__":
    _main(*sys.argv[1:])
