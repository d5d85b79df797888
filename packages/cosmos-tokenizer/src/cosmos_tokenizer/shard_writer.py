"""One shard in webdataset's layout: a tar file with a few members for each clip, which depend on nothing else.

A clip of key K has ``K.json`` (what it is and which model encoded it), ``K.npy`` (latents C t h w, or indices t h w)
and, where a ``.txt`` of its name lies beside it, ``K.txt``, its caption. What a ``.json`` beside it says is the
record's ``metadata``. Times, owners and order are fixed, so that the same clips make the same bytes.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from cosmos_tokenizer.atomic import whole_file
from cosmos_tokenizer.checkpoint import load
from cosmos_tokenizer.errors import InputError
from cosmos_tokenizer.jsontext import readable, to_json
from cosmos_tokenizer.media import in_pieces, open_media
from cosmos_tokenizer.model import CausalTokenizer
from cosmos_tokenizer.passes import Passes, passes_of
from cosmos_tokenizer.shard_plan import Clip, Shard
from cosmos_tokenizer.sources import Source
from cosmos_tokenizer.video import Footage

LatentType = Literal["float16", "float32"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """All that decides the samples but the clips, in a form that goes to another process.

    `name` is the model's for people. `dtype` is the weights', None for as they are stored; `latents` is that of stored
    latents.
    """

    source: Source
    name: str
    preset: str | None
    device: str
    dtype: str | None
    latents: LatentType
    exact: bool
    tile: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipDone:
    """One clip of a shard was encoded, or skipped for a reason; `bounded`: attention looked back on a part of it."""

    clip: Clip
    reason: str | None
    bounded: bool


Event = ClipDone | tuple[str, dict[str, Any]]
"""What is told while shards are made: a clip, or a finished shard's name and its figures.

The figures are its samples, its bytes, its SHA-256, and which clips were skipped and why.
"""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ClipEncoder:
    """A model in its inference form, its fingerprint as stored, and what it is to do."""

    recipe: Recipe
    model: CausalTokenizer
    fingerprint: Mapping[str, str | None]

    @property
    def stored(self) -> np.dtype:
        """Type of the stored tokens: of indices, the smallest unsigned one that holds the codebook."""
        if self.model.config.kind == "discrete":
            return np.min_scalar_type(self.model.config.codebook_size - 1)
        return np.dtype(self.recipe.latents)

    def nbytes(self, clip: Clip) -> int:
        """Bytes that the tokens of a clip will take by what its header says; 0 if it cannot be read."""
        try:
            with open_media(clip.path) as footage:
                shape = self._passes(footage).token_shape(footage.announced or 1)
        except (InputError, OSError):
            return 0
        return int(np.prod(shape)) * self.stored.itemsize

    def encode(self, clip: Clip) -> tuple[np.ndarray, dict[str, Any]]:
        """Return a clip's tokens, all of them in memory, and its record.

        Raises:
            InputError: it cannot be read, does not suit the model, or its latents do not fit the type to be stored.
            OSError: the file cannot be read.
        """
        frames = 0

        def counted(pieces: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
            nonlocal frames
            for piece in pieces:
                frames += len(piece)
                yield piece

        with torch.inference_mode(), open_media(clip.path) as footage:
            passes = self._passes(footage)
            found = passes.encode(counted(in_pieces(footage.frames, passes.frames)))
            values = np.concatenate([self._packed(tokens[0]) for tokens in found], axis=-3)
            geometry = self.model.geometry
            record = {
                "source": clip.source,
                "kind": self.model.config.kind,
                "frames": frames,
                "height": footage.size[0],
                "width": footage.size[1],
                "rate": None if footage.rate is None else str(footage.rate),
                "temporal": geometry.temporal,
                "spatial": geometry.spatial,
                "window": passes.window if passes.bounds(frames) else None,
                "model": self.recipe.name,
                "fingerprint": dict(self.fingerprint),
            }
        return values, record

    def _passes(self, footage: Footage) -> Passes:
        if self.model.config.media == "image" and footage.rate is not None:
            raise InputError("is a video, and the model takes pictures")
        return passes_of(self.model, footage.size, exact=self.recipe.exact, tile=self.recipe.tile)

    def _packed(self, values: Tensor) -> np.ndarray:
        if not values.is_floating_point():
            return values.cpu().numpy().astype(self.stored)
        packed = values.to(getattr(torch, self.recipe.latents))
        if not bool(torch.isfinite(packed).all()):
            peak = float(values.abs().max())
            raise InputError(
                f"its latents reach {peak:.4g}, which {self.recipe.latents} cannot hold; try --latents float32"
            )
        return packed.cpu().numpy()


def open_encoder(recipe: Recipe) -> ClipEncoder:
    """Load the model that a recipe names, without its decoder.

    Raises:
        InputError: as for `load`; or it has no encoder.
    """
    model = load(recipe.source, preset=recipe.preset, device=recipe.device)
    fingerprint = model.fingerprint
    if model.encoder is None:
        raise InputError(f"{recipe.name}: holds a decoder only; encode with a checkpoint that has an encoder")
    model.decoder = None
    if recipe.dtype is not None:
        model = model.to(getattr(torch, recipe.dtype))
    return ClipEncoder(recipe=recipe, model=model.fold(), fingerprint=fingerprint)


def write_shard(folder: Path, shard: Shard, encoder: ClipEncoder) -> Iterator[Event]:
    """Write a shard, whole or not at all, without the clips that cannot be read; tell each clip, then the shard.

    Raises:
        OSError: the shard cannot be written.
    """
    skipped = []
    with whole_file(folder / shard.name) as beside:
        with tarfile.open(beside, "w", format=tarfile.PAX_FORMAT) as tar:
            for clip in shard.clips:
                try:
                    members, bounded = _members(clip, encoder)
                except (InputError, OSError) as error:
                    reason = _reason(error, clip)
                    skipped.append({"source": clip.source, "reason": reason})
                    yield ClipDone(clip=clip, reason=reason, bounded=False)
                    continue
                for suffix, data in members.items():
                    member = tarfile.TarInfo(f"{clip.key}.{suffix}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
                yield ClipDone(clip=clip, reason=None, bounded=bounded)
        with beside.open("rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
        size = beside.stat().st_size
    samples = len(shard.clips) - len(skipped)
    yield shard.name, {"samples": samples, "bytes": size, "sha256": checksum, "skipped": skipped}


def _members(clip: Clip, encoder: ClipEncoder) -> tuple[dict[str, bytes], bool]:
    metadata, caption = clip.path.with_suffix(".json"), clip.path.with_suffix(".txt")
    beside: dict[str, Any] = {}
    texts: dict[str, bytes] = {}
    try:
        if metadata.is_file():
            beside["metadata"] = json.loads(metadata.read_text("utf-8"))
        if caption.is_file():
            texts["txt"] = caption.read_text("utf-8").strip().encode()
    except ValueError as error:  # of UTF-8 and of JSON
        at_fault = caption if "metadata" in beside or not metadata.is_file() else metadata
        raise InputError(f"{at_fault.name} beside it is damaged ({error})") from error
    values, record = encoder.encode(clip)
    packed = io.BytesIO()
    np.save(packed, values, allow_pickle=False)
    record_json = to_json({**record, **beside}).encode()
    return {"json": record_json, "npy": packed.getvalue(), **texts}, record["window"] is not None


def _reason(error: InputError | OSError, clip: Clip) -> str:
    text = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
    return readable(text.removeprefix(f"{clip.path}: "))
