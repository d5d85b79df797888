"""The released diffusion world models (arXiv 2501.03575, tables 10 and 11, and their successors) as data."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from cosmos_diffusion.config import DiTConfig

_7B = DiTConfig(blocks=28, width=4096, heads=32)
_14B = DiTConfig(blocks=36, width=5120, heads=40, rope_ratio=(2.0, 2.0, 2.0))
_7B_VIDEO = replace(_7B, condition_mask=True)
_14B_VIDEO = replace(_14B, condition_mask=True)
_7B_VIEWS = replace(_7B, views=6, position="sincos")
_2B_PREDICT2 = DiTConfig(
    blocks=28,
    width=2048,
    heads=16,
    rope_ratio=(1.0, 4.0, 4.0),
    rope_fps=False,
    position="none",
    prediction="flow",
)
_14B_PREDICT2 = replace(_2B_PREDICT2, blocks=36, width=5120, heads=40)
_2B_PREDICT25 = replace(
    _2B_PREDICT2,
    rope_ratio=(1.0, 3.0, 3.0),
    condition_mask=True,
    text_projection=100352,
    prediction="rectified",
)
# Positions by rotation alone, so that sizes that it never saw are no new rows of a table, and rotations so fast that
# eight pairs of channels tell a dozen cells of an axis apart.
_NANO_VIDEO = DiTConfig(
    blocks=6,
    width=192,
    heads=4,
    adaln_rank=16,
    text_width=64,
    text_length=96,
    grid=(128, 160, 160),
    rope_ratio=(0.004, 0.004, 0.004),
    position="none",
    condition_mask=True,
    padding_mask=False,
)
_TOY = DiTConfig(blocks=2, width=48, heads=2, adaln_rank=8, text_width=32, text_length=16, grid=(16, 32, 32))

PRESETS: Mapping[str, DiTConfig] = MappingProxyType(
    {
        "7b-text2world": _7B,
        "7b-video2world": _7B_VIDEO,
        "14b-text2world": _14B,
        "14b-video2world": _14B_VIDEO,
        "7b-text2world-multiview": _7B_VIEWS,
        "7b-video2world-multiview": replace(_7B_VIEWS, condition_mask=True),
        "7b-text2world-multiview-trajectory": replace(_7B_VIEWS, trajectory_channels=6),
        "7b-video2world-camera": replace(_7B_VIDEO, camera_channels=6),
        "7b-video2world-action": replace(_7B_VIDEO, action_numbers=7, action_branch="modulation", position="none"),
        "7b-decoder-dv8x16x16-cv8x8x8": replace(_7B, token_channels=32, position="none", rope_ratio=(1.0, 1.5, 1.5)),
        "predict2-2b-text2image": _2B_PREDICT2,
        "predict2-2b-video2world": replace(_2B_PREDICT2, condition_mask=True, rope_ratio=(1.0, 3.0, 3.0)),
        "predict2-14b-text2image": _14B_PREDICT2,
        "predict2-14b-video2world": replace(_14B_PREDICT2, condition_mask=True, rope_ratio=(20 / 24, 2.0, 2.0)),
        "predict2.5-2b": _2B_PREDICT25,
        "predict2.5-14b": replace(_2B_PREDICT25, blocks=36, width=5120, heads=40),
        "nano-video2world": _NANO_VIDEO,
        "toy": _TOY,
        "toy-video": replace(_TOY, condition_mask=True),
    }
)
"""Name to config: every released net, the shipped nano, and ``toy`` ones for tests."""
