"""Curation of video for world models (arXiv 2501.03575, section 3); anything not named here may change."""

from cosmos_curate._version import __version__ as __version__
from cosmos_curate.errors import InputError as InputError
from cosmos_curate.errors import Unusable as Unusable

__all__ = ["InputError", "Unusable", "__version__"]
