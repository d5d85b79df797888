"""Causal wavelet video tokenizer (arXiv 2501.03575, section 4): the public face; anything not named here may change."""

from cosmos_tokenizer._version import __version__ as __version__
from cosmos_tokenizer.checkpoint import load as load
from cosmos_tokenizer.checkpoint import save as save
from cosmos_tokenizer.config import TokenizerConfig as TokenizerConfig
from cosmos_tokenizer.convert import convert as convert
from cosmos_tokenizer.errors import InputError as InputError
from cosmos_tokenizer.geometry import Geometry as Geometry
from cosmos_tokenizer.model import CausalTokenizer as CausalTokenizer
from cosmos_tokenizer.presets import PRESETS as PRESETS
from cosmos_tokenizer.protocols import ContinuousCodec as ContinuousCodec
from cosmos_tokenizer.protocols import DiscreteCodec as DiscreteCodec
from cosmos_tokenizer.statistics import LatentStatistics as LatentStatistics
from cosmos_tokenizer.testing import check_codec as check_codec

__all__ = [
    "PRESETS",
    "CausalTokenizer",
    "ContinuousCodec",
    "DiscreteCodec",
    "Geometry",
    "InputError",
    "LatentStatistics",
    "TokenizerConfig",
    "__version__",
    "check_codec",
    "convert",
    "load",
    "save",
]
