"""The stage that says what a clip shows: embedding, ImageNet's labels, and type of video (arXiv 2501.03575, 3.3)."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cosmos_curate.content import efficientnet
from cosmos_curate.content.embedding import FRAMES, SIZE, SOFT, embed, sharp_frames
from cosmos_curate.content.heads import Head, load_head
from cosmos_curate.content.video_types import imagenet, type_by_labels
from cosmos_curate.errors import InputError
from cosmos_curate.media.frames import Frames, Sampling
from cosmos_curate.models.cache import sha256
from cosmos_curate.schema import VIDEO_TYPES
from cosmos_curate.stage import Columns, Item, Process, Stage

SAMPLING = Sampling(rate=None, most=FRAMES, short_side=efficientnet.SIDE)


@dataclass(frozen=True, kw_only=True)
class ContentConfig:
    """What to say of a clip.

    Args:
        tags: how many of ImageNet's labels, best first.
        type_head: file of a trained head over VIDEO_TYPES; the weak map from labels, if None.
    """

    tags: int = 5
    type_head: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.tags <= efficientnet.CLASSES:
            raise InputError(f"tags must be from 1 to {efficientnet.CLASSES}, not {self.tags}")


def content_stage(config: ContentConfig) -> Stage:
    """Return the stage over clips that writes embedding, tags and type; scores are probabilities.

    Raises:
        InputError: the head's file is missing, or is no head of video types over these embeddings.
    """
    weights = {"efficientnet-lite0": sha256(efficientnet.weights_file())}
    if config.type_head is not None:
        weights["type_head"] = load_type_head(config.type_head).sha256
    return Stage(
        name="content",
        version=1,
        over="clip",
        open=functools.partial(open_content, config),
        writes=("embedding", "tags", "tag_scores", "video_type", "video_type_score"),
        samplings=(SAMPLING,),
        settings={"tags": config.tags},
        weights=weights,
    )


def load_type_head(path: str) -> Head:
    """Return the head, if it answers with VIDEO_TYPES and takes embeddings of this stage."""
    head = load_head(path)
    if unknown := sorted(set(head.labels) - set(VIDEO_TYPES)):
        raise InputError(f"{path} is no head of video types: it answers {unknown[0]!r}")
    if len(head.mean) != SIZE:
        raise InputError(f"{path} takes embeddings of {len(head.mean)} numbers, not {SIZE}")
    return head


def open_content(config: ContentConfig) -> Process:
    """Load network and head; return the stage's function."""
    run = efficientnet.open_network("projected", "logits")
    head = None if config.type_head is None else load_type_head(config.type_head)
    names = imagenet().names

    def process(item: Item, frames: Mapping[Sampling, Frames]) -> Columns:
        pixels = frames[SAMPLING].pixels
        soft, _ = run(efficientnet.prepare(pixels, soft=SOFT))
        sharp, logits = run(efficientnet.prepare(pixels[sharp_frames(len(pixels))]))
        embedding = embed(soft, sharp)
        probabilities = efficientnet.softmax(logits).mean(0)
        if head is None:
            video_type, score = type_by_labels(probabilities)
        else:
            answers = head.probabilities(embedding[None].astype(np.float32))[0]
            video_type, score = head.labels[int(answers.argmax())], float(answers.max())
        best = np.argsort(-probabilities, kind="stable")[: config.tags]
        return {
            "embedding": embedding,
            "tags": [names[index] for index in best],
            "tag_scores": [float(probabilities[index]) for index in best],
            "video_type": video_type,
            "video_type_score": score,
        }

    return process
