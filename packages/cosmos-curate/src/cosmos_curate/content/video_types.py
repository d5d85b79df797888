"""Type of video from ImageNet's labels by a map made by hand: weak, for want of a trained head.

ImageNet names things, not kinds of video. A label votes for the group in which its thing is mostly filmed (animals
and landscapes: nature; tools, vessels and food: hands; rooms and buildings: space; vehicles and road signs: driving;
sport and clothes: people; screens and print: synthetic). No label tells how the camera is held or moved, so that
"first-person view" and "dynamic camera" never come out. Train a head on real answers instead (`training`).
"""

import functools
from dataclasses import dataclass
from importlib import resources

import numpy as np
from jaxtyping import Float32

from cosmos_curate.schema import VIDEO_TYPES

OTHER = "other"


@dataclass(frozen=True, kw_only=True)
class Labels:
    """ImageNet's 1,000 classes in the network's order: WordNet id, name, and the group of video they vote for."""

    synsets: tuple[str, ...]
    names: tuple[str, ...]
    types: tuple[str, ...]


@functools.cache
def imagenet() -> Labels:
    """Return the classes, from `imagenet.tsv`; its names are WordNet 3.0's, made unique (licence beside it)."""
    text = resources.files("cosmos_curate.content").joinpath("imagenet.tsv").read_text("utf-8")
    synsets, names, types = zip(*(line.split("\t") for line in text.splitlines()), strict=True)
    return Labels(synsets=synsets, names=names, types=types)


def type_by_labels(probabilities: Float32[np.ndarray, "1000"]) -> tuple[str, float]:
    """Return the group with over half of the probability and its share, or else "other" with what no group has.

    Under half nothing is told: animals are over 400 of the labels, and a flat answer would always say nature.
    """
    types = imagenet().types
    shares: dict[str, float] = dict.fromkeys(VIDEO_TYPES, 0.0)
    for name, probability in zip(types, probabilities.tolist(), strict=True):
        shares[name] += probability
    best = max((name for name in shares if name != OTHER), key=lambda name: shares[name])
    return (best, min(shares[best], 1.0)) if shares[best] > 0.5 else (OTHER, 1 - shares[best])
