"""Text2World: a clip of a prompt (arXiv 2501.03575, section 5.1)."""

from collections.abc import Callable, Sequence
from typing import Unpack

from cosmos_diffusion.channels import Conditions
from cosmos_diffusion.pipelines.generation import Generation
from cosmos_diffusion.pipelines.guard import Watch
from cosmos_diffusion.pipelines.pipeline import NOTHING, Pipeline
from cosmos_diffusion.pipelines.request import Settings
from cosmos_diffusion.pipelines.texts import Embeddings
from cosmos_diffusion.samplers import Callback
from cosmos_diffusion.upsampling import upsample_text
from cosmos_tokenizer import InputError


class Text2World(Pipeline):
    """Text to video; arguments and errors of its making are :class:`Pipeline`'s.

    Networks of Video2World serve too, and are then given no frame.
    """

    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        negative: str | None = None,
        embeddings: Embeddings | None = None,
        negative_embeddings: Embeddings | None = None,
        seeds: int | Sequence[int] = 0,
        conditions: Conditions = NOTHING,
        callback: Callback | None = None,
        on_clip: Callable[[Generation], object] | None = None,
        **settings: Unpack[Settings],
    ) -> Generation:
        """Clips, one for each seed, or each prompt, or both where there are as many.

        Each is what it would be alone. Frames, size, fps, steps, guidance and sampler are ``settings``, see
        :class:`Settings`, and by default the model's own. One frame is a picture.

        Args:
            prompt: of each clip, or of a network with views of its views; None is no text.
            negative: what guidance leads away from; see :meth:`Pipeline.texts` for what it is by default.
            embeddings: text that was embedded before; ``prompt`` is then what it says, where known.
            negative_embeddings: the same of the negative prompt.
            seeds: from 0 up.
            conditions: what else the network is told, of each clip or of all.
            callback: called behind every step; where it returns True, the run ends, and the clip under way is dropped.
            on_clip: called with each clip when it is whole.

        Raises:
            InputError: an argument is out of range or does not fit the network.
            RefusedError: the guard refuses a prompt or a clip.
        """
        request, watch = self.request(**settings), Watch(self.guard)
        texts = self.texts(
            prompt,
            negative=negative,
            embeddings=embeddings,
            negative_embeddings=negative_embeddings,
            views=self.views(conditions),
            captions=None if self.upsampler is None else self._caption,
            watch=watch,
        )
        return self._generate(
            request,
            texts,
            watch,
            seeds=seeds,
            given=None,
            conditions=conditions,
            augment=None,
            callback=callback,
            on_clip=on_clip,
        )

    def _caption(self, prompt: str, number: int) -> str:
        assert self.upsampler is not None
        if not prompt:
            raise InputError("there is an upsampler and no prompt: give one, or no upsampler")
        return upsample_text(prompt, self.upsampler)
