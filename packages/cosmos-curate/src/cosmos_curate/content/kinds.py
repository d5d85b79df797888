"""The two heads of the pipeline and the labels that each may have (arXiv 2501.03575, section 3.2)."""

from collections.abc import Mapping

from cosmos_curate.schema import VIDEO_TYPES

KINDS: Mapping[str, tuple[str, ...]] = {"type": VIDEO_TYPES, "overlay": ("clean", "overlay")}
