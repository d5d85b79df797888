"""The stage that finds text in a clip, reads it, and says how much of it was laid over the picture."""

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, UInt8

from cosmos_curate.errors import InputError
from cosmos_curate.media.frames import Frames, Sampling
from cosmos_curate.overlay.boxes import areas, bounds
from cosmos_curate.overlay.reader import RapidText, TextReader, TextReaderBackend
from cosmos_curate.overlay.rule import Track, certainties, link, overlay_score
from cosmos_curate.stage import Columns, Item, Process, Stage

if TYPE_CHECKING:
    from cosmos_curate.content.heads import Head

LABEL = "overlay"
"""The label of a head whose probability is text_overlay."""

_MOST_READ = 40


@dataclass(frozen=True, kw_only=True)
class OverlayConfig:
    """Which frames are searched, with what, and who judges.

    Args:
        rate: frames a second.
        most: frames of a clip at most, spread evenly.
        probes: frames searched first; a clip without text in them is taken to have none. `most` or more: all.
        short_side: pixels of the shorter side that text is read at; the backend may seek it in smaller pictures.
        sure: what is read with less certainty, from 0 to 1, is no text.
        reader: finds and reads text.
        head: file of a classifier upon the column embedding, with the label "overlay": its probability takes the
            place of the rule's text_overlay. None for the rule.
    """

    rate: float = 2.0
    most: int = 12
    probes: int = 3
    short_side: int = 720
    sure: float = 0.6
    reader: RapidText | TextReaderBackend = field(default_factory=RapidText)
    head: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        if not self.rate > 0:
            raise InputError(f"overlay rate {self.rate} is not a number of frames a second above 0")
        if self.most < 1:
            raise InputError(f"overlay most {self.most} leaves no frame: give 1 or more")
        if self.probes < 1:
            raise InputError(f"overlay probes {self.probes} would find no text at all: give 1 or more")
        if self.short_side < 64:
            raise InputError(f"overlay short_side {self.short_side} is too small to read: give 64 or more")
        if not 0 <= self.sure <= 1:
            raise InputError(f"overlay sure {self.sure} is not from 0 to 1")

    @property
    def sampling(self) -> Sampling:
        """The frames that are searched."""
        return Sampling(rate=self.rate, most=self.most, short_side=self.short_side)


def overlay_stage(config: OverlayConfig | None = None) -> Stage:
    """Return the stage that writes text_overlay, text_area and text, one reading a line, in order of appearance.

    With a head it reads the column embedding; where that is None, so is text_overlay.

    Raises:
        InputError: the head has no label "overlay".
    """
    config = config or OverlayConfig()
    names = ("rate", "most", "probes", "short_side", "sure")
    settings: dict[str, Any] = {name: getattr(config, name) for name in names}
    settings["reader"] = dict(config.reader.settings)
    weights = dict(config.reader.weights)
    if config.head is not None:
        weights["overlay head"] = _load_head(Path(config.head))[0].sha256
    return Stage(
        name="overlay",
        version=1,
        over="clip",
        open=functools.partial(_open, config),
        reads=() if config.head is None else ("embedding",),
        writes=("text_overlay", "text_area", "text"),
        samplings=(config.sampling,),
        settings=settings,
        weights=weights,
    )


def _load_head(path: Path) -> "tuple[Head, int]":
    """Return a head and the place of its label."""
    from cosmos_curate.content.heads import load_head

    head = load_head(path)
    labels = list(head.labels)
    if LABEL not in labels:
        raise InputError(f'overlay head {path} knows {", ".join(labels)}, not "{LABEL}"')
    return head, labels.index(LABEL)


def _open(config: OverlayConfig) -> Process:
    head = None if config.head is None else _load_head(Path(config.head))
    return functools.partial(_process, config, config.reader.open(), head)


def _process(
    config: OverlayConfig,
    reader: TextReader,
    head: "tuple[Head, int] | None",
    item: Item,
    frames: Mapping[Sampling, Frames],
) -> Columns:
    pictures = frames[config.sampling].pixels
    if pictures.shape[3] == 1:
        pictures = pictures.repeat(3, 3)
    quads = _find(reader, pictures, config.probes)
    size = (pictures.shape[1], pictures.shape[2])
    said = _readings(reader, pictures, quads, link([bounds(one) for one in quads], size), config.sure)
    tracks = [track for track, _ in said]
    if head is not None:
        score = _judged(head, item.columns.get("embedding"))
    elif tracks:
        score = overlay_score(tracks, certainties(tracks, quads, _lumas(pictures)), quads, size)
    else:
        score = 0.0
    taken = np.zeros(len(pictures))
    for track in tracks:
        for sample, box in zip(track.samples, track.boxes, strict=True):
            taken[sample] += areas(quads[sample])[box] / (size[0] * size[1])
    return {
        "text_overlay": score,
        "text_area": float(np.minimum(taken, 1).mean()),
        "text": "\n".join(dict.fromkeys(text for _, text in said)),
    }


def _judged(head: "tuple[Head, int]", embedding: object) -> float | None:
    if not isinstance(embedding, np.ndarray):
        return None
    network, place = head
    return float(network.probabilities(embedding.astype(np.float32)[None])[0, place])


def _find(
    reader: TextReader, pictures: UInt8[np.ndarray, "T H W 3"], probes: int
) -> list[Float32[np.ndarray, "_ 4 2"]]:
    """Return the boxes of each picture; of none, if the probes, spread over the clip, have none."""
    chosen = set(np.linspace(0, len(pictures) - 1, min(probes, len(pictures))).round().astype(int).tolist())
    found = {index: reader.find(pictures[index]) for index in sorted(chosen)}
    empty = not any(map(len, found.values()))
    nothing = np.zeros((0, 4, 2), np.float32)
    return [
        found[index] if index in found else nothing if empty else reader.find(picture)
        for index, picture in enumerate(pictures)
    ]


def _lumas(pictures: UInt8[np.ndarray, "T H W 3"]) -> UInt8[np.ndarray, "T H W"]:
    import cv2

    return np.stack([cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY) for picture in pictures])


def _readings(
    reader: TextReader,
    pictures: UInt8[np.ndarray, "T H W 3"],
    quads: list[Float32[np.ndarray, "_ 4 2"]],
    tracks: list[Track],
    sure: float,
) -> list[tuple[Track, str]]:
    """Return the tracks that can be read, with what they say, in order of appearance.

    Each is read where it is largest, and where that fails in its middle sample; of more than 40 those in most samples.
    """
    places = {
        id(track): [
            (sample, box, areas(quads[sample])[box]) for sample, box in zip(track.samples, track.boxes, strict=True)
        ]
        for track in tracks
    }
    chosen = sorted(tracks, key=lambda track: -len(track.samples))[:_MOST_READ]
    kept = {id(track) for track in chosen}
    said: list[tuple[Track, str]] = []
    for track in tracks:
        if id(track) not in kept:
            continue
        at = places[id(track)]
        largest = max(range(len(at)), key=lambda index: at[index][2])
        for index in dict.fromkeys((largest, len(at) // 2)):
            sample, box, _ = at[index]
            text, certainty = reader.read(pictures[sample], quads[sample][box])
            if text and certainty >= sure:
                said.append((track, text))
                break
    return said
