"""Prompts, or embeddings that were made before, to what the network reads: zeros where there is no text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from cosmos_diffusion.config import DiTConfig
from cosmos_diffusion.embedding_files import Embedding
from cosmos_diffusion.pipelines.guard import Watch
from cosmos_diffusion.text_encoders import TextEncoder
from cosmos_diffusion.text_encoders.byte_encoder import ByteEncoder
from cosmos_diffusion.text_encoders.padding import padded
from cosmos_tokenizer import InputError

Embeddings = Embedding | Float[Tensor, "_ K"] | Float[Tensor, "_ _ K"]
"""A file's (``embedding_files.read_embedding``), or vectors, of one clip or of each."""


Captions = Callable[[str, int], str]
"""A prompt and its number, counted through clips and their views, to a long caption."""
Said = str | tuple[str, ...] | None
"""Of one clip; of each of its views where they differ; None where nothing was said, or only its embedding is known."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Texts:
    """Of some clips, in float32 on the CPU. Of views, ``S`` counts the vectors of all, one view behind another.

    `prompts`: what was said, and `upsampled` what a language model made of it. `cut`: a text fills all vectors that the
    network reads, and what is behind them is lost. `negative_left_out`: the model has a negative prompt of its own, and
    no text encoder was there for it.
    """

    text: Float[Tensor, "B S K"]
    negative: Float[Tensor, "B S K"]
    prompts: tuple[Said, ...]
    upsampled: tuple[Said, ...]
    negative_prompt: Said
    cut: bool = False
    negative_left_out: bool = False

    @property
    def guided(self) -> bool:
        """Whether the text differs from the negative one, so that guidance by it does anything."""
        return not torch.equal(self.text, self.negative)

    def of(self, clip: int) -> "Texts":
        """That of one clip; one text serves all."""
        row = slice(clip, clip + 1) if len(self.text) > 1 else slice(None)
        return Texts(
            text=self.text[row],
            negative=self.negative[row],
            prompts=self.prompts[row],
            upsampled=self.upsampled[row],
            negative_prompt=self.negative_prompt,
            cut=self.cut,
            negative_left_out=self.negative_left_out,
        )


class Words(NamedTuple):
    """Of each clip the prompts of its views, and the captions that were made of them, if any."""

    prompts: list[tuple[str, ...]]
    captions: list[tuple[str, ...]]

    @property
    def views(self) -> int:
        """Of a clip."""
        return len(self.prompts[0])


def worded(
    prompt: str | Sequence[str] | None,
    embeddings: Embeddings | None,
    *,
    views: int,
    captions: Captions | None,
    watch: Watch,
) -> Words:
    """Prompts as a guard lets them pass, and captions of them; arguments and errors are ``Pipeline.texts``'s."""
    if isinstance(embeddings, Embedding) and prompt is None:
        prompt = embeddings.prompt
    prompts = by_view(prompt, views)
    _judge(prompts, watch)
    if captions is None:
        return Words(prompts, [])
    if embeddings is not None:
        raise InputError("embeddings are given, and a prompt is to be upsampled: leave one of them out")
    longer = [
        tuple(captions(said, clip * views + view) for view, said in enumerate(each))
        for clip, each in enumerate(prompts)
    ]
    _judge(longer, watch)
    return Words(prompts, longer)


def embedded(
    words: Words,
    negative: str | None,
    embeddings: Embeddings | None,
    negative_embeddings: Embeddings | None,
    *,
    encoder: TextEncoder | None,
    config: DiTConfig,
    default: str,
) -> Texts:
    """Text and negative text as the network reads them; ``default`` is the model's own negative prompt.

    Raises:
        InputError: see ``Pipeline.texts``.
    """
    views = words.views
    if embeddings is None:
        flat, cut = embed([said for clip in words.captions or words.prompts for said in clip], encoder, config)
        text = flat.unflatten(0, (len(words.prompts), views)).flatten(1, 2)
    else:
        text, cut = given_embeddings(embeddings, config, views=views)
    left_out = False
    if negative_embeddings is None:
        if negative is None:
            left_out = encoder is None and not config.views and bool(text.any()) and bool(default)
            negative = "" if encoder is None or config.views or not bool(text.any()) else default
        away, away_cut = embed([negative], encoder, config, what="negative prompt")
        away = away.repeat(1, views, 1)
    else:
        away, away_cut = given_embeddings(negative_embeddings, config, views=views)
        if isinstance(negative_embeddings, Embedding) and negative is None:
            negative = negative_embeddings.prompt
    if len(away) not in (1, len(text)):
        raise InputError(f"{len(away)} negative embeddings are given for {len(text)} texts: give one, or as many")
    prompts, captions = ([said_of(clip) for clip in said] for said in (words.prompts, words.captions or [("",)]))
    return Texts(
        text=text,
        negative=away.expand(len(text), -1, -1),
        prompts=_each(prompts, len(text)),
        upsampled=_each(captions, len(text)),
        negative_prompt=negative or None,
        cut=cut or away_cut,
        negative_left_out=left_out,
    )


def _judge(said: Sequence[tuple[str, ...]], watch: Watch) -> None:
    for each in dict.fromkeys(each for clip in said for each in clip if each):
        watch.prompt(each)


def _each(said: Sequence[Said], clips: int) -> tuple[Said, ...]:
    """Of so many clips: one serves all."""
    if len(said) not in (1, clips):
        raise InputError(f"{len(said)} prompts are given for {clips} texts: give one, or as many")
    return tuple(said) if len(said) == clips else tuple(said) * clips


def embed(
    prompts: Sequence[str], encoder: TextEncoder | None, config: DiTConfig, *, what: str = "prompt"
) -> tuple[Float[Tensor, "B S K"], bool]:
    """Embeddings at the network's length, and whether one is cut there.

    An empty prompt is no text, which is zeros and needs no encoder. ``what`` errors call the prompts.

    Raises:
        InputError: there is a prompt and no encoder, or one of another width.
    """
    said = [prompt for prompt in prompts if prompt]
    if not said:
        return torch.zeros(len(prompts), config.text_length, _width(config)), False
    if encoder is None:
        raise InputError(
            f"the {what} is {said[0][:40]!r}, and this model has no text encoder of its own: give one, or embeddings "
            f"made before, or no {what}"
        )
    check_encoder(encoder, config)
    whole = encoder.encode(said)
    found = padded(list(whole), config.text_length)
    text_BSK = torch.zeros(len(prompts), *found.shape[1:])
    text_BSK[[index for index, prompt in enumerate(prompts) if prompt]] = found.float().cpu()
    if isinstance(encoder, ByteEncoder):
        return text_BSK, any(encoder.cuts(prompt) for prompt in said)
    room = min(encoder.length, config.text_length)  # others do not say what they cut: it fills their last vector
    return text_BSK, bool((whole[:, room - 1 :] != 0).any())


def given_embeddings(given: Embeddings, config: DiTConfig, *, views: int) -> tuple[Float[Tensor, "B L K"], bool]:
    """Embeddings at the network's length, the same for every view, and whether one is cut there.

    Raises:
        InputError: there is none, or it is of another width.
    """
    text = given.text if isinstance(given, Embedding) else given
    text_BSK = text[None] if text.dim() == 2 else text
    if text_BSK.shape[-1] != _width(config):
        raise InputError(
            f"the embedding has vectors of width {text_BSK.shape[-1]}: this network takes {_width(config)}, "
            "use the text encoder that it was trained with"
        )
    if not len(text_BSK):
        raise InputError(f"the embedding has shape {tuple(text_BSK.shape)}: give that of one clip or more")
    cut = bool((text_BSK[:, config.text_length :] != 0).any())
    return padded(list(text_BSK.float().cpu()), config.text_length).repeat(1, views, 1), cut


def by_view(prompt: str | Sequence[str] | None, views: int) -> list[tuple[str, ...]]:
    """The prompts of each clip's views: one serves all; of several views, a sequence has one for each.

    Raises:
        InputError: there are others than views, or none at all.
    """
    if prompt is None or isinstance(prompt, str):
        return [(prompt or "",) * views]
    if not prompt or (views > 1 and len(prompt) != views):
        raise InputError(f"{len(prompt)} prompts are given: give one{f', or {views} of the views' * (views > 1)}")
    return [tuple(prompt)] if views > 1 else [(said,) for said in prompt]


def said_of(prompts: tuple[str, ...]) -> Said:
    """Of the prompts of a clip's views, what there is to say."""
    return prompts if len(set(prompts)) > 1 else prompts[0] or None


def check_encoder(encoder: TextEncoder, config: DiTConfig) -> None:
    """Raise where the vectors of an encoder do not fit the network.

    Raises:
        InputError: naming both widths.
    """
    if encoder.width != _width(config):
        raise InputError(
            f"the text encoder makes vectors of width {encoder.width}: this network takes {_width(config)}, "
            "use the one that it was trained with"
        )


def _width(config: DiTConfig) -> int:
    return config.text_projection or config.text_width
