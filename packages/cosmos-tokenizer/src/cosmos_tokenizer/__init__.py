"""Causal wavelet video tokenizer (arXiv 2501.03575, section 4): the public face; anything not named here may change.

Public modules: `metrics` (PSNR, SSIM, Fréchet distances, LPIPS, use of codes) and `compat` (the reference's two
classes); for packages built on this one, `commandline`, `progress`, `jsontext`, `atomic`, `video`, `images`, `media`,
`devices`, `hub`, `slots` and `tensor_files`, and the network's parts, `haar`, `fsq`, `layers`, `attention`,
`resampling` and `network`. A name below is imported when it is first used, since most of them bring torch, which takes
seconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from cosmos_tokenizer._version import __version__ as __version__

if TYPE_CHECKING:
    from cosmos_tokenizer.checkpoint import load as load
    from cosmos_tokenizer.checkpoint import save as save
    from cosmos_tokenizer.config import TokenizerConfig as TokenizerConfig
    from cosmos_tokenizer.conversion import convert as convert
    from cosmos_tokenizer.errors import InputError as InputError
    from cosmos_tokenizer.exporting import export as export
    from cosmos_tokenizer.geometry import Geometry as Geometry
    from cosmos_tokenizer.model import CausalTokenizer as CausalTokenizer
    from cosmos_tokenizer.presets import PRESETS as PRESETS
    from cosmos_tokenizer.protocols import ContinuousCodec as ContinuousCodec
    from cosmos_tokenizer.protocols import DiscreteCodec as DiscreteCodec
    from cosmos_tokenizer.shard_reader import read_shards as read_shards
    from cosmos_tokenizer.shards import write_shards as write_shards
    from cosmos_tokenizer.statistics import LatentStatistics as LatentStatistics
    from cosmos_tokenizer.streaming import StreamDecoder as StreamDecoder
    from cosmos_tokenizer.streaming import StreamEncoder as StreamEncoder
    from cosmos_tokenizer.testing import check_codec as check_codec
    from cosmos_tokenizer.tiling import Tiles as Tiles

__all__ = [
    "PRESETS",
    "CausalTokenizer",
    "ContinuousCodec",
    "DiscreteCodec",
    "Geometry",
    "InputError",
    "LatentStatistics",
    "StreamDecoder",
    "StreamEncoder",
    "Tiles",
    "TokenizerConfig",
    "__version__",
    "check_codec",
    "convert",
    "export",
    "load",
    "read_shards",
    "save",
    "write_shards",
]

# No name here may be that of a module of the package: importing the module would take its place.
_HOMES = {
    "PRESETS": "presets",
    "CausalTokenizer": "model",
    "ContinuousCodec": "protocols",
    "DiscreteCodec": "protocols",
    "Geometry": "geometry",
    "InputError": "errors",
    "LatentStatistics": "statistics",
    "StreamDecoder": "streaming",
    "StreamEncoder": "streaming",
    "Tiles": "tiling",
    "TokenizerConfig": "config",
    "check_codec": "testing",
    "convert": "conversion",
    "export": "exporting",
    "load": "checkpoint",
    "read_shards": "shard_reader",
    "save": "checkpoint",
    "write_shards": "shards",
}

if not TYPE_CHECKING:  # to a type checker, a module with this function has every name

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
