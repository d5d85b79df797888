"""A pipeline beyond its clips' own length: chunk after chunk, each from the end of the one before (``rollout``)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Unpack

from jaxtyping import Float
from torch import Tensor

from cosmos_diffusion.pipelines.generation import common, of_clip
from cosmos_diffusion.pipelines.guard import Watch
from cosmos_diffusion.pipelines.pipeline import Pipeline
from cosmos_diffusion.pipelines.request import Settings
from cosmos_diffusion.pipelines.texts import Embeddings, Texts
from cosmos_diffusion.pipelines.video2world import Video2World
from cosmos_diffusion.rollout import Chunk, rollout
from cosmos_diffusion.samplers import Callback
from cosmos_diffusion.upsampling import upsample_text, upsample_video
from cosmos_tokenizer import Geometry, InputError
from cosmos_tokenizer.media import to_frames


class LongVideo:
    """Makes videos of any length of a pipeline, in the memory of one chunk; a ``rollout.Continues``.

    The first chunk is the clip that the pipeline makes with the same arguments.

    Args:
        pipeline: of a network that can be given frames; ``Text2World`` begins with none.
        negative, embeddings, negative_embeddings: see the pipeline's call; the same for all chunks.
        callback: called behind every step of the sampler; where it returns True, the chunk under way is dropped, and
            the video ends before it.
        settings: of each chunk. ``frames`` is a chunk's length with its given frames: by default the model's own, which
            it was trained on.

    Raises:
        InputError: a setting is out of range, or the network takes no such clip.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        negative: str | None = None,
        embeddings: Embeddings | None = None,
        negative_embeddings: Embeddings | None = None,
        callback: Callback | None = None,
        **settings: Unpack[Settings],
    ) -> None:
        self.pipeline, self.request = pipeline, pipeline.request(**settings)
        self.watch = Watch(pipeline.guard)
        """What the guard said; on videos, of the last chunk."""
        self.texts: Texts | None = None
        """Of the last chunk."""
        self.reused: int | None = None
        """Steps of the last chunk that left out most of the network; see ``Placement.cache``."""
        self._negative, self._negative_embeddings = negative, negative_embeddings
        self._embeddings, self._callback = embeddings, callback
        self._said: str | None = None

    def __call__(
        self,
        frames: int,
        *,
        prompts: str | Sequence[str | None] | None = None,
        video: Float[Tensor, "1 3 T H W"] | None = None,
        image: Float[Tensor, "1 3 H W"] | None = None,
        condition_frames: int | None = None,
        overlap: int | None = None,
        seed: int = 0,
        drift: Sequence[int | float] | None = None,
        callback: Callable[[Chunk], bool | None] | None = None,
    ) -> Iterator[Chunk]:
        """A video, chunk by chunk. What is not said here is as in ``rollout.rollout``.

        The guard sees the frames that each chunk adds, and what it makes of them is what comes out; the next chunk goes
        on from what was generated.

        Args:
            frames: of the whole, given ones included; any number.
            prompts: of the chunks in turn; the last one serves all that follow. With an upsampler each chunk gets a
                caption of its own, of the last frame that it is given.
            video, image, condition_frames: what it begins with; see ``Video2World``.
            overlap, seed, drift, callback: see ``rollout.rollout``.

        Raises:
            InputError: an argument is out of range, or the network takes text alone and the video is longer than a
                chunk.
            RefusedError: the guard refuses a prompt or a chunk.
        """
        if frames > self.frames and not self.pipeline.world.config.condition_mask:
            raise InputError(
                f"frames is {frames}, and this network takes text alone, so that it ends at {self.frames}: use a "
                "video2world model, or ask for fewer"
            )
        given = None
        if isinstance(self.pipeline, Video2World):
            given = self.pipeline.given_frames(self.request, video, image, condition_frames=condition_frames)
        elif video is not None or image is not None:
            raise InputError("a video is given, and the pipeline begins with text: use Video2World")
        chunks = rollout(self, frames, given=given, overlap=overlap, prompts=prompts, seed=seed, drift=drift)
        return self._watched(chunks, callback)

    def _watched(self, chunks: Iterator[Chunk], callback: Callable[[Chunk], bool | None] | None) -> Iterator[Chunk]:
        for each in chunks:
            chunk = replace(each, video=self.watch.video(each.video))
            ends = callback is not None and callback(chunk)
            yield chunk
            if ends:
                return

    @property
    def geometry(self) -> Geometry:
        """Of the codec."""
        return self.pipeline.codec.geometry

    @property
    def frames(self) -> int:
        """Of a chunk with its given frames; of each view."""
        return self.request.frames

    @property
    def views(self) -> int:
        """Of a clip."""
        return self.pipeline.views()

    def continue_from(
        self, given: Float[Tensor, "1 3 K H W"] | None, *, prompt: str | None, seed: int, augment: int | float | None
    ) -> Float[Tensor, "1 3 T H W"] | None:
        """A clip that begins with given frames, or with none; see ``rollout.Continues``. No guard sees it here."""
        upsampler = self.pipeline.upsampler
        if self.texts is None or self._said != prompt or upsampler is not None:  # captions speak of what is seen
            self.texts = self.pipeline.texts(
                prompt,
                negative=self._negative,
                embeddings=self._embeddings,
                negative_embeddings=self._negative_embeddings,
                views=self.views,
                captions=None if upsampler is None else self._captions(given),
                watch=self.watch,
            )
            self._said = prompt
        made = self.pipeline.clip(
            self.texts, self.request, seed=seed, given=given, augment=augment, callback=self._callback
        )
        if made is None:
            return None
        self.reused = made.reused
        return made.video

    def metadata(self, chunks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """How a video of these chunks was made, each as :meth:`said` gave it; all of it JSON."""
        shared = common(
            self.request,
            self.pipeline.names,
            self.watch,
            condition_frames=chunks[0]["given"],
            views=self.views,
            augment=chunks[0]["augment"],
        )
        made = {"frames": sum(chunk["frames"] for chunk in chunks), "chunk": self.frames}
        return {**shared, **made, "seed": chunks[0]["seed"], "chunks": list(chunks)}

    def said(self, chunk: Chunk) -> dict[str, Any]:
        """What the last chunk has of its own."""
        assert self.texts is not None
        own = self.pipeline.world.preconditioning.augment if chunk.given else None
        counted = {"first": chunk.first, "frames": chunk.video.shape[2] // self.views, "given": chunk.given}
        return {
            **counted,
            "augment": own if chunk.augment is None else chunk.augment,
            **of_clip(chunk.seed, self.texts, self.watch, self.reused),
        }

    def _captions(self, given: Tensor | None) -> Callable[[str, int], str]:
        upsampler = self.pipeline.upsampler
        assert upsampler is not None

        def caption(prompt: str, view: int) -> str:
            if given is not None:
                return upsample_video(to_frames(given.chunk(self.views, dim=2)[view])[-1], upsampler, prompt=prompt)
            if not prompt:
                raise InputError("there is an upsampler and no prompt: give one, or no upsampler")
            return upsample_text(prompt, upsampler)

        return caption
