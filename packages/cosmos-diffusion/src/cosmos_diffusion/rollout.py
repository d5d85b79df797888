"""Long video by chunks, each of which goes on from the end of the one before (arXiv 2501.03575, section 5.1).

A network that was trained on clips of one length makes noise of longer ones. Here it makes clips of its own length: the
last frames of each are encoded anew and given to the next, which drops them from what it adds. Chunks come one by one,
so that memory does not grow with the video, and a longer rollout begins with the frames of a shorter one.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from cosmos_tokenizer import Geometry, InputError

DRIFT = (0.001, 0.2, 0.5)
"""The reference's noise levels for the given frames of the first chunk, of the second, and of all behind it.

What is given from the second chunk on was itself generated: shown with noise, its errors are not taken for truth.
"""
_OVERLAP = 2
"""Latent frames that a chunk is given of the one before: the most that the released networks were trained with."""


@runtime_checkable
class Continues(Protocol):
    """What a rollout goes on with; ``pipelines.Video2World`` through ``long_video``, or anything with these members."""

    @property
    def geometry(self) -> Geometry:
        """Frames of clips against latent frames."""
        ...

    @property
    def frames(self) -> int:
        """Of the clips that it makes, given ones included; of each view."""
        ...

    @property
    def views(self) -> int:
        """How many stand one behind another in time in every clip; 1 where there is one camera."""
        ...

    def continue_from(
        self, given: Float[Tensor, "1 3 K H W"] | None, *, prompt: str | None, seed: int, augment: int | float | None
    ) -> Float[Tensor, "1 3 T H W"] | None:
        """A clip that begins with given frames, or with none; the same for the same arguments.

        ``augment`` is the noise level at which the network is shown them, None for its own. None ends the rollout.
        """
        ...


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Chunk:
    """Frames that a chunk adds, in [-1, 1]; of views, those of each one behind another.

    `index` of `chunks`; `first`: where its frames stand in the whole video. Those of the first begin with what was
    given. `given`: how many frames it went on from; `prompt`, `seed` and `augment`: what it was made with.
    """

    video: Float[Tensor, "1 3 T H W"]
    index: int
    chunks: int
    first: int
    given: int
    prompt: str | None
    seed: int
    augment: int | float | None


def rollout(
    maker: Continues,
    frames: int,
    *,
    given: Float[Tensor, "1 3 K H W"] | None = None,
    overlap: int | None = None,
    prompts: str | Sequence[str | None] | None = None,
    seed: int = 0,
    drift: Sequence[int | float] | None = None,
    callback: Callable[[Chunk], bool | None] | None = None,
) -> Iterator[Chunk]:
    """Chunks of a video, each when it is made; their ``video`` put one behind another has ``frames`` frames.

    Args:
        maker: makes clips of a length of its own. The first chunk is what it makes with these very arguments.
        frames: of the whole, given ones included; of each view. Chunks are always whole, and what is over is cut off.
        given: frames that the video begins with; None for none.
        overlap: frames that each further chunk is given of the one before, 1 + a multiple of the geometry's 8; by
            default 9, the most that the released networks were trained with (5 at Wan's 4 to one).
        prompts: of the chunks in turn; the last one serves all that follow. None is no text.
        seed: of the first chunk; the others' are derived from it, see :func:`chunk_seed`.
        drift: noise levels at which the network is shown what is given, of the chunks in turn, :data:`DRIFT` for
            instance; the last one serves all that follow. None leaves it to the network, and networks of flows
            take no other.
        callback: called with each chunk; where it returns True, that one is the last.

    Raises:
        InputError: nothing is left to be made, ``given`` or ``overlap`` are not 1 + a multiple of 8 or not shorter than
            a clip, or the seed or a level is out of range.
    """
    views, geometry = maker.views, maker.geometry
    if given is not None and given.shape[2] % views:
        raise InputError(f"{given.shape[2]} frames are given: {views} views need a multiple of {views}")
    known = 0 if given is None else given.shape[2] // views
    if frames <= known:
        raise InputError(f"frames is {frames}, and {known} are given: ask for more")
    overlap = usual_overlap(geometry, maker.frames) if overlap is None else overlap
    lengths = {"given frames": known} if given is not None else {}
    for name, length in (lengths | ({"overlap": overlap} if frames > maker.frames else {})).items():
        if not 1 <= length < maker.frames or (length - 1) % geometry.temporal:
            raise InputError(
                f"{name}: {length}, and a chunk has {maker.frames} frames: give 1 + a multiple of {geometry.temporal}, "
                "and fewer than that"
            )
    chunk_seed(seed, 0)
    if drift is not None and not (drift and all(0 <= level < float("inf") for level in drift)):
        raise InputError(f"drift is {list(drift)}: give noise levels from 0 up, one at least")
    said = [prompts] if prompts is None or isinstance(prompts, str) else list(prompts)
    if not said:
        raise InputError("prompts is empty: give one, or leave it out")
    return _chunks(maker, frames, given, overlap, said, seed, drift, callback)


def usual_overlap(geometry: Geometry, chunk: int) -> int:
    """Frames that a chunk of so many frames is given of the one before: two latent frames, or one where it has two."""
    return geometry.frames(max(1, min(_OVERLAP, geometry.latent_frames(chunk) - 1)))


def chunks_of(frames: int, *, chunk: int, overlap: int) -> int:
    """How many chunks of so many frames a video takes."""
    return 1 if frames <= chunk else 1 + -(-(frames - chunk) // max(1, chunk - overlap))


def chunk_seed(seed: int, index: int) -> int:
    """Seed of a chunk: the first has the rollout's own, and no two share any, nor do those of neighbouring seeds.

    Raises:
        InputError: the seed is out of range.
    """
    if not 0 <= seed < 1 << 63:
        raise InputError(f"seed is {seed}: give a whole number from 0 to {(1 << 63) - 1}")
    if index == 0:
        return seed
    return int(np.random.SeedSequence(seed, spawn_key=(index,)).generate_state(1, np.uint64)[0]) >> 1


def _chunks(
    maker: Continues,
    frames: int,
    given: Tensor | None,
    overlap: int,
    prompts: Sequence[str | None],
    seed: int,
    drift: Sequence[int | float] | None,
    callback: Callable[[Chunk], bool | None] | None,
) -> Iterator[Chunk]:
    chunks = chunks_of(frames, chunk=maker.frames, overlap=overlap)
    first, seen = 0, 0
    for index in range(chunks):
        prompt = prompts[min(index, len(prompts) - 1)]
        augment = None if drift is None or given is None else drift[min(index, len(drift) - 1)]
        of_chunk = chunk_seed(seed, index)
        clip = maker.continue_from(given, prompt=prompt, seed=of_chunk, augment=augment)
        if clip is None:
            return
        if clip.shape[2] != maker.frames * maker.views:
            raise InputError(f"a chunk has {clip.shape[2]} frames, and {maker.views} times {maker.frames} were due")
        known = 0 if given is None else given.shape[2] // maker.views
        clip_VT = rearrange(clip, "b c (v t) h w -> b c v t h w", v=maker.views)
        given = clip_VT[:, :, :, -overlap:].flatten(2, 3)
        added = clip_VT[:, :, :, seen : seen + frames - first].flatten(2, 3)
        chunk = Chunk(
            video=added,
            index=index,
            chunks=chunks,
            first=first,
            given=known,
            prompt=prompt,
            seed=of_chunk,
            augment=augment,
        )
        first, seen = first + added.shape[2] // maker.views, overlap
        ends = callback is not None and callback(chunk)
        yield chunk
        if ends:
            return
