"""Shards of tokens as a dataset for a training loop, over webdataset (extra `shards`)."""

import glob
import io
import json
import random
import tarfile
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from cosmos_tokenizer.errors import InputError
from cosmos_tokenizer.shard_plan import MANIFEST, is_whole, read_manifest
from cosmos_tokenizer.token_files import NAMES

_END = bytes(2 * tarfile.BLOCKSIZE)

Sample = dict[str, Tensor | int | float | str]


class ShardDataset(IterableDataset[Sample]):
    """The samples of some shards, once each among all ranks and all DataLoader workers together.

    Ranks and workers take whole shards where there are enough of them, and else every so manieth sample of all; some
    get one shard, or one sample, more than others.
    """

    def __init__(self, shards: list[Path], *, shuffle: int, seed: int) -> None:
        super().__init__()
        self.shards = shards
        self._shuffle, self._seed = shuffle, seed
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # workers that live on see it change

    def set_epoch(self, epoch: int) -> None:
        """Let the next pass have another order; without a shuffle it changes nothing."""
        self._epoch.fill_(epoch)

    def __iter__(self) -> Iterator[Sample]:
        """Samples of this rank and worker.

        Raises:
            InputError: a shard is cut short or damaged.
        """
        from webdataset.filters import shuffle
        from webdataset.utils import pytorch_worker_info

        rank, ranks, worker, workers = pytorch_worker_info()
        part, parts = rank * workers + worker, ranks * workers
        order = f"{self._seed} {int(self._epoch)}"
        shards = list(self.shards)
        if self._shuffle:
            random.Random(order).shuffle(shards)
        samples = _read(shards[part::parts]) if len(shards) >= parts else islice(_read(shards), part, None, parts)
        if self._shuffle:
            samples = shuffle(self._shuffle, rng=random.Random(f"{order} {part}"))(samples)
        for members in samples:
            yield _sample(members)


if TYPE_CHECKING:
    _Opened = ShardDataset
else:  # run-time type checkers warn of what torch's IterableDataset is made of
    _Opened = Dataset


def read_shards(shards: Path | str, *, shuffle: int = 0, seed: int = 0) -> _Opened:
    """Open shards that `write_shards`, or `cosmos-tokenizer encode --shards`, wrote.

    Each sample is a dict that collates: `latents` (C t h w, as stored) or `indices` (t h w, int32); `frames`, `height`
    and `width` of the clip; its `rate`, 0 for a picture; `key`; `caption`, "" where there is none; and `json`, the text
    of its record. Samples of one shape stack into batches; others take `batch_size=None` or 1, or a collate function.

    Args:
        shards: folder that holds them with their manifest, a shard, or a glob of shards.
        shuffle: samples among which each next one is drawn, and shards come in another order for each epoch; 0 keeps
            the order. See :meth:`ShardDataset.set_epoch`.
        seed: of the order.

    Raises:
        InputError: webdataset is not installed; there are no such shards, the folder is not finished or lacks one, a
            shard is damaged, or two were made by different models.
    """
    try:
        import webdataset  # noqa: F401
    except ImportError as error:
        raise InputError('webdataset is needed to read shards: pip install "cosmos-tokenizer[shards]"') from error
    found = _found(Path(shards))
    makers = {path: maker for path in found if (maker := _maker(path)) is not None}
    first = next(iter(makers), None)
    for path, maker in makers.items():
        if first is not None and maker["fingerprint"] != makers[first]["fingerprint"]:
            raise InputError(
                f"{path}: was made by another model ({maker['model']}) than {first} ({makers[first]['model']}); read "
                "shards of one model at a time"
            )
    return ShardDataset(found, shuffle=shuffle, seed=seed)


def _found(shards: Path) -> list[Path]:
    if not shards.is_dir():
        found = [shards] if shards.is_file() else sorted(map(Path, glob.glob(str(shards), recursive=True)))
        if not found:
            raise InputError(f"{shards}: is no folder and no shard, and matches none; check the name")
        return [path.absolute() for path in found]
    manifest = read_manifest(shards)
    if manifest is None:
        raise InputError(f"{shards}: holds no {MANIFEST}; name a folder of shards, or a glob of them")
    if not is_whole(manifest):
        raise InputError(f"{shards}: is not finished; run the same command again, or name a glob of what is there")
    for row in manifest["shards"]:
        path = shards / row["name"]
        if not path.is_file() or path.stat().st_size != row["bytes"]:
            raise InputError(f"{path}: is missing or not whole; run the same command again")
    return [(shards / row["name"]).absolute() for row in manifest["shards"]]


def _maker(path: Path) -> dict[str, Any] | None:
    """Return the record of a shard's first sample; None where all its clips were skipped."""
    try:
        with path.open("rb") as data:
            data.seek(-len(_END), io.SEEK_END)
            if data.read() != _END:  # a tar file cut between two samples would read as a shorter one
                raise ValueError("it has no end")
        with tarfile.open(path) as tar:
            member = tar.next()
            file = None if member is None else tar.extractfile(member)
            if file is None:
                return None
            record = json.load(file)
            return {"model": record["model"], "fingerprint": record["fingerprint"]}
    except (tarfile.TarError, OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: is not a shard of tokens, or is damaged; encode the clips again") from error


def _read(paths: list[Path]) -> Iterator[dict[str, Any]]:
    """Members of each sample by suffix, and its key and shard as webdataset names them."""
    from webdataset.tariterators import group_by_keys, tar_file_expander

    for path in paths:
        try:
            with path.open("rb") as stream:
                yield from group_by_keys(tar_file_expander([{"url": str(path), "stream": stream}]))
        except (tarfile.TarError, OSError, EOFError) as error:
            raise InputError(f"{path}: is truncated or damaged; encode the clips again") from error


def _sample(members: dict[str, Any]) -> Sample:
    try:
        record = json.loads(members["json"])
        values = np.load(io.BytesIO(members["npy"]), allow_pickle=False)
        rate = 0.0 if record["rate"] is None else float(Fraction(record["rate"]))
        discrete = record["kind"] == "discrete"
        return {
            "key": members["__key__"],
            NAMES[record["kind"]]: torch.from_numpy(values.astype(np.int32) if discrete else values),
            "frames": record["frames"],
            "height": record["height"],
            "width": record["width"],
            "rate": rate,
            "caption": members.get("txt", b"").decode(),
            "json": members["json"].decode(),
        }
    except (ValueError, KeyError, TypeError, EOFError) as error:
        raise InputError(
            f"{members['__url__']}: sample {members['__key__']} is damaged; encode the clips again"
        ) from error
