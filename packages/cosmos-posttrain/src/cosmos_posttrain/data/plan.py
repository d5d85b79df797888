"""The order of batches: which samples, with which seeds, make batch `number` of epoch `epoch`; nothing but arithmetic.

An epoch takes every clip once, in an order that the seed and the epoch alone determine; a bucket whose last batch is
not full takes some of its samples a second time for it. Batches of pictures lie evenly between those of clips; where
their share asks for more or fewer than one pass over the pictures, passes run across epochs.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cosmos_posttrain.data.buckets import Bucket, Media
from cosmos_posttrain.data.config import StreamConfig
from cosmos_tokenizer import InputError

_MEDIA: tuple[Media, Media] = ("video", "image")


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Position:
    """A batch of the run; it does not depend on how many processes or workers there are."""

    epoch: int
    batch: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Draw:
    """One process's part of a batch: the bucket's number, places in its `samples`, and a seed for each."""

    bucket: int
    places: tuple[int, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Plan:
    """Buckets and what determines the order of their batches."""

    buckets: tuple[Bucket, ...]
    images: float | None
    seed: int

    def batches(self) -> int:
        """How many batches an epoch has."""
        videos, pictures = (self._passing(media) for media in _MEDIA)
        return videos + self._pictures(videos, pictures)

    def epoch(self, epoch: int) -> list[tuple[int, np.ndarray]]:
        """Return the batches of an epoch in order, each as its bucket's number and places in its `samples`."""
        videos, pictures = (self._passing(media) for media in _MEDIA)
        wanted = self._pictures(videos, pictures)
        if not wanted:
            return self._passed("video", epoch)
        first = epoch * wanted
        passes = range(first // pictures, (first + wanted - 1) // pictures + 1)
        stills = [batch for number in passes for batch in self._passed("image", number)]
        stills = iter(stills[first % pictures :][:wanted])
        clips = iter(self._passed("video", epoch) if videos else [])
        count = videos + wanted
        return [next(stills) if (k + 1) * wanted // count > k * wanted // count else next(clips) for k in range(count)]

    def walk(self, start: Position, *, rank: int, world: int) -> Iterator[Draw]:
        """Yield one process's part of every batch from `start` on, without end; it has every `world`-th sample."""
        epoch, number = start.epoch, start.batch
        while True:
            for batch, (bucket, places) in enumerate(self.epoch(epoch)[number:], start=number):
                slots = range(rank, len(places), world)
                seeds = tuple(_seed(self.seed, epoch, batch, slot) for slot in slots)
                yield Draw(bucket=bucket, places=tuple(int(places[slot]) for slot in slots), seeds=seeds)
            epoch, number = epoch + 1, 0

    def after(self, position: Position) -> Position:
        """Return the position of the next batch."""
        last = position.batch + 1 >= self.batches()
        return Position(epoch=position.epoch + last, batch=0 if last else position.batch + 1)

    def digest(self, samples: bytes) -> str:
        """Return what tells this plan for samples of that digest from any other."""
        digest = hashlib.sha256(samples + repr((self.seed, self.images)).encode())
        for bucket in self.buckets:
            digest.update(repr((bucket.shape, bucket.batch)).encode() + bucket.samples.astype("<i8").tobytes())
        return digest.hexdigest()[:16]

    def _passing(self, media: Media) -> int:
        """Batches of one pass over all samples of a medium."""
        return sum(-(-len(b.samples) // b.batch) for b in self.buckets if b.shape.media == media)

    def _pictures(self, videos: int, pictures: int) -> int:
        """Batches of pictures in an epoch."""
        if not pictures or not videos or self.images is None:
            return pictures
        return max(1, round(videos * self.images / (1 - self.images))) if self.images else 0

    def _passed(self, media: Media, number: int) -> list[tuple[int, np.ndarray]]:
        """Batches of a numbered pass over all samples of a medium, in its random order."""
        rng = np.random.default_rng([self.seed, number, _MEDIA.index(media)])
        batches = []
        for index, bucket in enumerate(self.buckets):
            if bucket.shape.media == media:
                order = rng.permutation(len(bucket.samples))
                rows = -(-len(order) // bucket.batch)
                batches += [(index, row) for row in np.resize(order, (rows, bucket.batch))]
        return [batches[k] for k in rng.permutation(len(batches))]


def make_plan(buckets: tuple[Bucket, ...], config: StreamConfig, *, world: int) -> Plan:
    """Return the plan of these buckets.

    Raises:
        InputError: the processes cannot share a batch evenly.
    """
    for bucket in buckets:
        if bucket.batch % world:
            what = "pictures" if bucket.shape.media == "image" else "clips"
            raise InputError(
                f"a batch of {bucket.batch} {what} cannot be shared by {world} processes; give a multiple of {world}"
            )
    return Plan(buckets=buckets, images=config.images, seed=config.seed)


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
