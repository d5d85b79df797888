"""Video2World: what happens next, of the last frames of a video or of a picture (arXiv 2501.03575, section 5.1)."""

from collections.abc import Callable, Sequence
from typing import Unpack

from jaxtyping import Float
from torch import Tensor

from cosmos_diffusion.channels import Conditions
from cosmos_diffusion.pipelines.clips import checked_video, frames_to_give, last_frames, resized
from cosmos_diffusion.pipelines.generation import Generation
from cosmos_diffusion.pipelines.guard import Watch
from cosmos_diffusion.pipelines.pipeline import NOTHING, Pipeline
from cosmos_diffusion.pipelines.request import Request, Settings
from cosmos_diffusion.pipelines.texts import Embeddings
from cosmos_diffusion.samplers import Callback
from cosmos_diffusion.upsampling import upsample_video
from cosmos_tokenizer import InputError
from cosmos_tokenizer.media import to_frames


class Video2World(Pipeline):
    """Video to what comes behind it; arguments of its making are :class:`Pipeline`'s.

    Raises:
        InputError: as there; also of a network that takes text alone.
    """

    takes_frames = True

    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        video: Float[Tensor, "B 3 T Y X"] | None = None,
        image: Float[Tensor, "B 3 Y X"] | None = None,
        condition_frames: int | None = None,
        negative: str | None = None,
        embeddings: Embeddings | None = None,
        negative_embeddings: Embeddings | None = None,
        seeds: int | Sequence[int] = 0,
        augment: int | float | None = None,
        conditions: Conditions = NOTHING,
        callback: Callback | None = None,
        on_clip: Callable[[Generation], object] | None = None,
        **settings: Unpack[Settings],
    ) -> Generation:
        """Clips that begin with given frames, one for each seed, prompt or video, or all where there are as many.

        What is not said here is as in :class:`Text2World`.

        Args:
            prompt: of what happens; None is no text.
            video: in [-1, 1], of any size and length; of views, the frames of each one behind another. Its last frames
                are what the clip begins with, brought to the clip's height and width by bicubic interpolation without
                regard to their aspect ratio, as the reference does. Frames of that size come back bit for bit.
            image: the same of a picture, which is one frame.
            condition_frames: how many frames are given, 1 + a multiple of 8 and fewer than the clip has. By default the
                most that there are, up to 9, for the released networks were trained with 1 and 9.
            negative, embeddings, negative_embeddings, seeds, conditions, callback, on_clip: see :class:`Text2World`.
            augment: noise level at which the network is shown given frames, 0.001 by default for networks of EDM;
                those of flows are shown them as they are, and take none.

        Raises:
            InputError: an argument is out of range or does not fit the network.
            RefusedError: the guard refuses a prompt or a clip.
        """
        request, watch = self.request(**settings), Watch(self.guard)
        given = self.given_frames(request, video, image, condition_frames=condition_frames, conditions=conditions)
        views = self.views(conditions)
        if self.upsampler is not None and views == 1 and (prompt is None or isinstance(prompt, str)):
            prompt = [prompt or ""] * len(given)  # a caption for each video
        texts = self.texts(
            prompt,
            negative=negative,
            embeddings=embeddings,
            negative_embeddings=negative_embeddings,
            views=views,
            captions=None if self.upsampler is None else self._captions(given, views),
            watch=watch,
        )
        return self._generate(
            request,
            texts,
            watch,
            seeds=seeds,
            given=given,
            conditions=conditions,
            augment=augment,
            callback=callback,
            on_clip=on_clip,
        )

    def given_frames(
        self,
        request: Request,
        video: Float[Tensor, "B 3 T Y X"] | None = None,
        image: Float[Tensor, "B 3 Y X"] | None = None,
        *,
        condition_frames: int | None = None,
        conditions: Conditions = NOTHING,
    ) -> Float[Tensor, "B 3 K H W"]:
        """The frames that clips of a video or a picture begin with: what :meth:`Pipeline.clip` takes.

        Raises:
            InputError: both or neither is given, or the frames are too few, too many or out of range.
        """
        if (video is None) == (image is None):
            raise InputError("give a video or an image, and not both: Text2World takes neither")
        views = self.views(conditions)
        if video is None:
            assert image is not None
            video = image[:, :, None]
        video = checked_video(video, views)
        count = frames_to_give(video.shape[2] // views, condition_frames, self.codec.geometry, request.frames)
        return resized(last_frames(video, count, views=views), request.height, request.width)

    def _captions(self, given: Float[Tensor, "B 3 K H W"], views: int) -> Callable[[str, int], str]:
        def caption(prompt: str, number: int) -> str:
            assert self.upsampler is not None
            clip, view = divmod(number, views)
            frames = given[clip % len(given)][None].chunk(views, dim=2)[view]
            return upsample_video(to_frames(frames)[-1], self.upsampler, prompt=prompt)

        return caption
