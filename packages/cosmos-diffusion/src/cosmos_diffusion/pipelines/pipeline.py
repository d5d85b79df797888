"""What both pipelines share: parts in their places, text, and one clip from noise and given frames to pixels."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict
from types import TracebackType
from typing import Any, ClassVar, NamedTuple, TypeVar, Unpack

import torch
from jaxtyping import Float
from torch import Tensor

from cosmos_diffusion import checkpoint
from cosmos_diffusion.channels import Conditions
from cosmos_diffusion.chat import Chat
from cosmos_diffusion.codecs import load_codec, what_to_give
from cosmos_diffusion.domains import Domains
from cosmos_diffusion.parallel import Team
from cosmos_diffusion.pipelines.clips import (
    check_codec_fits,
    check_domains_fit,
    frames_to_give,
    statistics_of,
    to_data,
    to_video,
)
from cosmos_diffusion.pipelines.generation import Generation, common, joined, of_clip
from cosmos_diffusion.pipelines.guard import Guard, Watch
from cosmos_diffusion.pipelines.latent_sampling import sample
from cosmos_diffusion.pipelines.placement import Placement, Places
from cosmos_diffusion.pipelines.request import Request, Settings, check_seeds, complete
from cosmos_diffusion.pipelines.texts import Captions, Embeddings, Texts, check_encoder, embedded, worded
from cosmos_diffusion.samplers import Callback
from cosmos_diffusion.sources import Source
from cosmos_diffusion.step_cache import StepCache
from cosmos_diffusion.text_encoders import TextEncoder
from cosmos_diffusion.world_model import WorldModel
from cosmos_tokenizer import ContinuousCodec, InputError

NOTHING = Conditions()
_EVERYWHERE = Placement()
T = TypeVar("T")
P = TypeVar("P", bound="Pipeline")


class Made(NamedTuple):
    """One clip, which begins with what was given, and its latents at the scale of the data.

    `reused`: steps that left out most of the network for ``Placement.cache``, or None without one.
    """

    video: Float[Tensor, "1 3 T H W"]
    latents: Float[Tensor, "1 C t h w"]
    reused: int | None = None


class Pipeline:
    """Parts of a pipeline; :class:`Text2World` and :class:`Video2World` are two. Usable in a ``with``.

    Args:
        world: the model, or what ``load`` takes; of adapters, one into which ``lora.merge`` has put them. With
            ``placement`` or ``team`` its network is changed where it is.
        codec: whose latents it speaks of; by default the one that ``world.defaults.tokenizer`` names.
        text_encoder: by default the one in the model's file; prompts need one, and no prompt needs none.
        domains: statistics of the latents; by default the model's own, else those that the codec carries, as the
            released tokenizers do (arXiv 2501.03575, section 5.1).
        guard: judges prompts and clips; None is off. The metadata says which.
        upsampler: a language model that makes long captions of prompts; None is off.
        placement: how memory is used.
        team: processes that share the work, each of which makes this same pipeline and calls it alike.
        names: what the metadata calls the parts, "model" and "tokenizer" for instance.

    Raises:
        InputError: no such source; a tokenizer that is discrete, or whose latents do not fit the network; no statistics
            of latents; an encoder of another width; an option that this machine has no device for.
    """

    takes_frames: ClassVar[bool] = False

    def __init__(
        self,
        world: WorldModel | Source,
        *,
        codec: ContinuousCodec | None = None,
        text_encoder: TextEncoder | None = None,
        domains: Domains | None = None,
        guard: Guard | None = None,
        upsampler: Chat | None = None,
        placement: Placement = _EVERYWHERE,
        team: Team | None = None,
        names: Mapping[str, Any] | None = None,
    ) -> None:
        self.world = world if isinstance(world, WorldModel) else checkpoint.load(world)
        if self.takes_frames and not self.world.config.condition_mask:
            raise InputError("a video is to go on, and this network takes text alone: use a video2world model")
        defaults = self.world.defaults
        kind = self.world.config.prediction
        if codec is None and defaults.tokenizer is None:
            raise InputError(
                f"this model does not name its tokenizer: give a codec, codecs.load_codec of {what_to_give(kind)}"
            )
        self.codec: ContinuousCodec = codec or load_codec(str(defaults.tokenizer), prediction=kind)
        self.text_encoder: TextEncoder | None = text_encoder or self.world.text_encoder
        if self.text_encoder is not None:
            check_encoder(self.text_encoder, self.world.config)
        self.guard, self.upsampler, self.team, self.placement = guard, upsampler, team, placement
        self.places = Places(placement, self.world.net, team)
        self.places.settle(self.codec)
        self.places.settle(self.text_encoder)
        channels = self.world.config.latent_channels
        with self.places.use(self.codec), torch.no_grad():
            check_codec_fits(self.codec, channels, self.places.device)
        sigma_data = self.world.preconditioning.sigma_data
        domains = domains or self.world.domains or statistics_of(self.codec, sigma_data)
        self.domains = deepcopy(domains).to(self.places.device)
        check_domains_fit(self.domains, channels)
        self.names: dict[str, Any] = {
            "pipeline": type(self).__name__,
            "model": None if isinstance(world, WorldModel) else str(world),
            "tokenizer": defaults.tokenizer if codec is None else type(codec).__name__,
            "dtype": str(self.world.net.dtype).removeprefix("torch."),
            "weights": placement.weights,
            "cache": placement.cache,
            "processes": None if team is None else asdict(team.plan),
            **(names or {}),
        }

    def request(self, **settings: Unpack[Settings]) -> Request:
        """The settings of a clip, completed by the model's own defaults.

        Raises:
            InputError: one is out of range, or the network takes no such clip.
        """
        return complete(self.world.config, self.world.defaults, self.codec.geometry, settings)

    @torch.no_grad()
    def texts(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        negative: str | None = None,
        embeddings: Embeddings | None = None,
        negative_embeddings: Embeddings | None = None,
        views: int = 1,
        captions: Captions | None = None,
        watch: Watch | None = None,
    ) -> Texts:
        """Embeddings of prompts, once for all clips that are made of them.

        Args:
            prompt: of each clip; of a network with views one for all views, or one for each. Beside ``embeddings``,
                what they say. None and "" are no text.
            negative: what guidance leads away from, by default the model's own negative prompt where there is text to
                guide by and an encoder, and no view.
            embeddings: instead of the encoder's.
            negative_embeddings: the same of the negative prompt.
            views: of a clip.
            captions: makes a long caption of the prompt with that number, counted through clips and their views.
            watch: judges prompts and captions.

        Raises:
            InputError: a prompt without an encoder, an embedding of another width, captions of embeddings.
            RefusedError: the guard refuses a prompt.
        """
        words = worded(
            prompt,
            embeddings,
            views=views,
            captions=captions,
            watch=watch or Watch(self.guard),
        )
        with self.places.use(self.text_encoder):
            return embedded(
                words,
                negative,
                embeddings,
                negative_embeddings,
                encoder=self.text_encoder,
                config=self.world.config,
                default=self.world.defaults.negative,
            )

    @torch.no_grad()
    def clip(
        self,
        texts: Texts,
        request: Request,
        *,
        seed: int = 0,
        given: Float[Tensor, "1 3 K H W"] | None = None,
        conditions: Conditions = NOTHING,
        augment: int | float | None = None,
        callback: Callback | None = None,
    ) -> Made | None:
        """One clip: what a loop over chunks calls, which gives each the end of the one before it.

        The same arguments give the same clip, whatever was made before. No guard is asked.

        Args:
            texts: of this clip.
            request: its settings.
            seed: of all draws.
            given: the frames that it begins with, all of them, in [-1, 1] and of the request's size; 1 + a multiple of
                8 of each view, one view behind another.
            conditions: what else the network is told.
            augment: noise level at which the network is shown given frames; see ``WorldModel.given``.
            callback: called behind every step of the sampler; where it returns True, the run ends.

        Returns:
            The clip, or None where the callback ended the run.

        Raises:
            InputError: something does not fit the network, or what it makes is not finite.
        """
        views = self.views(conditions)
        known = None
        if given is not None:
            self._check_given(given, request, views)
            given = given.to(self.places.device)
            with self.places.use(self.codec):
                known = to_data(self.codec, self.domains, given, views=views)
        cache = None if self.placement.cache is None else StepCache(self.placement.cache)
        with self.places.network():
            data = sample(
                self.world,
                request,
                seed=seed,
                text=texts.text,
                negative=texts.negative,
                guided=texts.guided,
                known=known,
                views=views,
                conditions=conditions,
                augment=augment,
                device=self.places.device,
                team=self.team,
                in_turn=self.placement.in_turn,
                cache=cache,
                callback=callback,
            )
        if data is None:
            return None
        with self.places.use(self.codec):
            video = to_video(
                self.codec,
                self.domains,
                data,
                given,
                frames=request.frames,
                size=(request.height, request.width),
                views=views,
                picture=request.frames == 1,
            )
        if not bool(data.isfinite().all() & video.isfinite().all()):
            dtype = str(self.world.net.dtype).removeprefix("torch.")
            raise InputError(
                f"guidance {request.guidance.weight:g} in {dtype} gave numbers that are not finite: give a smaller "
                "guidance, or a dtype of more range, such as bfloat16 or float32"
            )
        return Made(video, data, None if cache is None else cache.reused)

    def views(self, conditions: Conditions = NOTHING) -> int:
        """How many views a clip has, one behind another."""
        return max(1, self.world.config.views) if conditions.views is None else conditions.views.shape[1]

    def _check_given(self, given: Float[Tensor, "1 3 K H W"], request: Request, views: int) -> None:
        count, odd = divmod(given.shape[2], views)
        frames_to_give(count, count, self.codec.geometry, request.frames)
        if odd or given.shape[3:] != (request.height, request.width):
            raise InputError(
                f"given frames have shape {tuple(given.shape)}: give as many of each of {views} views, "
                f"of {request.height}x{request.width}"
            )

    def close(self) -> None:
        """Send the parts home where they take turns, and end paging and the sharing of frames."""
        self.places.close()

    def __enter__(self: P) -> P:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _generate(
        self,
        request: Request,
        texts: Texts,
        watch: Watch,
        *,
        seeds: int | Sequence[int],
        given: Float[Tensor, "B 3 K H W"] | None,
        conditions: Conditions,
        augment: int | float | None,
        callback: Callback | None,
        on_clip: Callable[[Generation], object] | None,
    ) -> Generation:
        """All clips, one after the other, so that none depends on the others, nor memory on their number."""
        every, views = check_seeds(seeds), self.views(conditions)
        conditions.check(self.world.config)
        sizes = {"prompts": len(texts.text), "seeds": len(every)}
        sizes |= {} if given is None else {"videos": len(given)}
        sizes |= {name: len(value) for name, value in conditions._asdict().items() if value is not None}
        count = max(sizes.values())
        if any(size not in (1, count) for size in sizes.values()):
            raise InputError(f"{', '.join(f'{size} {name}' for name, size in sizes.items())}: give one or {count} each")
        known = 0 if given is None else given.shape[2] // views
        shown = augment if augment is not None or given is None else self.world.preconditioning.augment
        shared = common(request, self.names, watch, condition_frames=known, views=views, augment=shown)
        clips: list[Generation] = []
        for index in range(count):
            text, seed = texts.of(index), _row(every, index)
            made = self.clip(
                text,
                request,
                seed=seed,
                given=None if given is None else given[_rows(given, index)],
                conditions=Conditions(*(None if value is None else value[_rows(value, index)] for value in conditions)),
                augment=augment,
                callback=callback,
            )
            if made is None:
                break
            video = watch.video(made.video).cpu()
            metadata = {**shared, "cancelled": False, "clips": [of_clip(seed, text, watch, made.reused)]}
            clips.append(Generation(video=video, latents=made.latents.cpu(), fps=request.fps, metadata=metadata))
            if on_clip is not None:
                on_clip(clips[-1])
        cancelled = len(clips) < count
        latents = (self.world.config.latent_channels, views * request.latents[0], *request.latents[1:])
        nothing = Generation(
            video=torch.zeros(0, 3, views * request.frames, request.height, request.width),
            latents=torch.zeros(0, *latents),
            fps=request.fps,
            metadata={**shared, "cancelled": cancelled, "clips": []},
            cancelled=cancelled,
        )
        return joined(clips, nothing)


def _rows(value: Tensor, index: int) -> slice:
    return slice(index, index + 1) if len(value) > 1 else slice(None)


def _row(values: Sequence[T], index: int) -> T:
    return values[index if len(values) > 1 else 0]
