"""The stage that captions clips (arXiv 2501.03575, section 3): whole from 8 frames, or in windows of 256 frames."""

import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float64

from cosmos_curate.captions.captioner import Captioner, CaptionError
from cosmos_curate.captions.prompts import prompt_text
from cosmos_curate.captions.template import READS, template_columns
from cosmos_curate.captions.windows import frames_of, windows
from cosmos_curate.errors import InputError, Unusable
from cosmos_curate.media.frames import Frames, Sampling
from cosmos_curate.media.reading import read_index
from cosmos_curate.stage import Columns, Item, Process, Resources, Stage

KEY = "OPENAI_API_KEY"
"""The environment variable that an endpoint's key is read from; there is no other way to give one."""

Kind = Literal["template", "openai", "transformers"]

_ONE_CORE = Resources()
_WRITES = ("caption", "caption_source", "windows")


@dataclass(frozen=True, kw_only=True)
class CaptionConfig:
    """How clips are captioned.

    Args:
        captioner: "template" puts captions together from columns, without a model; "openai" asks an endpoint of
            OpenAI's form, with the key in OPENAI_API_KEY if it wants one; "transformers" runs a model here.
        model: its name at the endpoint; or a folder or hub id.
        revision: of a hub id; without one whatever is newest, which equal settings need not give again.
        base_url: of the endpoint, such as `http://localhost:8000/v1`. It does not enter the key of results: another
            server of a model of this name is taken for the same model.
        prompt: a name of `PROMPTS`, or a text of several words.
        window: frames of a window, each with a caption; 256 is usual. None: one caption of the whole clip.
        frames: pictures of a whole clip.
        rate: pictures a second of windows.
        most: pictures of a window at most, spread evenly; a server has a limit of its own.
        short_side: pixels of the shorter side of pictures; smaller ones stay.
        jpeg_quality: of pictures that are sent, from 1 to 100.
        max_tokens: that a caption may have.
        seed: sent to the endpoint, beside temperature 0.
        device: of a model here: "auto", "cpu", "cuda" or "cuda:1".
        timeout_s, retries, wait_s: of a request: seconds of a try, further tries, and seconds before the first of
            those, doubled from one to the next.
    """

    captioner: Kind = "template"
    model: str | None = None
    revision: str | None = None
    base_url: str | None = None
    prompt: str = "default"
    window: int | None = None
    frames: int = 8
    rate: float = 2.0
    most: int = 64
    short_side: int = 448
    jpeg_quality: int = 90
    max_tokens: int = 256
    seed: int = 0
    device: str = "auto"
    timeout_s: float = 120.0
    retries: int = 5
    wait_s: float = 1.0

    def __post_init__(self) -> None:
        if self.captioner not in get_args(Kind):
            raise InputError(f"captioner is {self.captioner!r}: give template, openai or transformers")
        if self.captioner == "openai" and not (self.base_url and self.model):
            raise InputError(
                f"captioner is openai, at {self.base_url!r} model {self.model!r}: give both, such as "
                "http://localhost:8000/v1 and the name that it serves"
            )
        if self.captioner == "transformers" and not self.model:
            raise InputError("captioner is transformers: give model, a folder or a hub id")
        prompt_text(self.prompt)
        for name in ("window", "frames", "most", "short_side", "max_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}: give a whole number from 1 up")
        if not self.rate > 0:
            raise InputError(f"rate is {self.rate}: give pictures a second, above 0")
        if not 1 <= self.jpeg_quality <= 100:
            raise InputError(f"jpeg_quality is {self.jpeg_quality}: give one from 1 to 100")
        if not self.timeout_s > 0 or self.retries < 0 or not self.wait_s >= 0:
            raise InputError(
                f"timeout_s {self.timeout_s}, retries {self.retries}, wait_s {self.wait_s}: "
                "none may be negative, nor the timeout 0"
            )


def caption_stage(config: CaptionConfig) -> Stage:
    """Return the stage over clips that writes caption, caption_source and windows.

    A window that gets no caption has the status "failed: ..." and a null caption; one that ran into `max_tokens` has
    "truncated", the others "ok". A clip all of whose windows fail raises `CaptionError`. A template needs no frames
    and reads what columns there are.

    Raises:
        InputError: transformers is asked for and not installed, or the device is not here.
    """
    if config.captioner == "template":
        resources = Resources(cpus=0.1)
        return Stage(
            name="caption",
            version=1,
            over="clip",
            open=_open_template,
            reads=READS,
            writes=_WRITES,
            settings={"captioner": "template"},
            resources=resources,
        )
    settings = {"captioner": config.captioner, "model": config.model, "max_tokens": config.max_tokens}
    settings["prompt"] = prompt_text(config.prompt)
    if config.captioner == "openai":
        settings |= {"seed": config.seed, "jpeg_quality": config.jpeg_quality}
        return captioner_stage(
            functools.partial(_open_openai, config), config, settings, resources=Resources(cpus=0.2, network=1.0)
        )
    from cosmos_curate.captions.pretrained import torch_device, weights_of

    gpu = torch_device(config.device).type != "cpu"
    weights = weights_of(config.model or "")
    return captioner_stage(
        functools.partial(_open_transformers, config),
        config,
        # A folder is known by its weights, wherever it lies.
        settings | {"model": None if weights else config.model, "revision": config.revision},
        weights=weights,
        resources=Resources(gpus=1.0 if gpu else 0.0),
    )


def captioner_stage(
    make: Callable[[], Captioner],
    config: CaptionConfig,
    settings: Mapping[str, Any],
    *,
    weights: Mapping[str, str] | None = None,
    resources: Resources = _ONE_CORE,
) -> Stage:
    """Return the stage of a captioner of one's own, which sees the frames that `config` says.

    Args:
        make: a module-level function, or a `functools.partial` of one, which makes the captioner once a worker.
        config: its window, frames, rate, most and short_side are used.
        settings: everything else that changes captions.
        weights: sha256 of files, by name.
        resources: of one worker.
    """
    if config.window is None:
        sampling = Sampling(rate=None, most=config.frames, short_side=config.short_side)
    else:
        sampling = Sampling(rate=config.rate, short_side=config.short_side)
    seen = {"window": config.window, "frames": config.frames, "short_side": config.short_side}
    if config.window is not None:
        seen |= {"frames": None, "rate": config.rate, "most": config.most}
    return Stage(
        name="caption",
        version=1,
        over="clip",
        open=functools.partial(_open, make, config, sampling),
        writes=_WRITES,
        samplings=(sampling,),
        settings={**settings, **seen},
        weights=dict(weights or {}),
        resources=resources,
    )


def frame_times(path: str) -> Float64[np.ndarray, "F"]:
    """Return when each frame of a clip is shown, in seconds from the first, without decoding any.

    Raises:
        Unusable: it cannot be opened, or does not say when its frames are shown.
    """
    times_s = np.array(read_index(path).times_s, np.float64)
    if not len(times_s):
        raise Unusable("does not say when its frames are shown")
    return times_s - times_s[0]


def _open_template() -> Process:
    return lambda item, frames: template_columns(item.columns)


def _open_openai(config: CaptionConfig) -> Captioner:
    from cosmos_curate.captions.openai_api import OpenAICaptioner

    return OpenAICaptioner(
        config.base_url or "",
        config.model or "",
        key=os.environ.get(KEY, "").strip() or None,
        prompt=config.prompt,
        max_tokens=config.max_tokens,
        seed=config.seed,
        jpeg_quality=config.jpeg_quality,
        timeout_s=config.timeout_s,
        retries=config.retries,
        wait_s=config.wait_s,
    )


def _open_transformers(config: CaptionConfig) -> Captioner:
    from cosmos_curate.captions.local_vlm import LocalCaptioner

    return LocalCaptioner(
        config.model or "",
        revision=config.revision,
        device=config.device,
        prompt=config.prompt,
        max_tokens=config.max_tokens,
    )


def _open(make: Callable[[], Captioner], config: CaptionConfig, sampling: Sampling) -> Process:
    captioner = make()

    def process(item: Item, frames: Mapping[Sampling, Frames]) -> Columns:
        return caption_clip(captioner, frame_times(item.path), frames[sampling], config)

    return process


def caption_clip(
    captioner: Captioner, times_s: Float64[np.ndarray, "F"], frames: Frames, config: CaptionConfig
) -> Columns:
    """Return the columns of captions of one clip.

    Args:
        captioner: sees one window after another.
        times_s: when each of the clip's F frames is shown.
        frames: those that were sampled.
        config: its window, frames and most are used.

    Raises:
        CaptionError: all windows failed, with the reason of the first.
        InputError: as the captioner.
    """
    most = config.frames if config.window is None else config.most
    told: list[dict[str, Any]] = []
    for first, end in windows(len(times_s), config.window):
        chosen = frames_of((first, end), times_s, frames.times_s, most)
        window = {"first_frame": first, "end_frame": end, "caption": None}
        try:
            made = captioner.caption(Frames(pixels=frames.pixels[chosen], times_s=frames.times_s[chosen]))
        except CaptionError as error:
            told.append(window | {"status": f"failed: {error}", "prompt_tokens": None, "output_tokens": None})
            continue
        told.append(
            window
            | {"caption": made.text, "status": "truncated" if made.truncated else "ok"}
            | {"prompt_tokens": made.prompt_tokens, "output_tokens": made.output_tokens}
        )
    caption = next((window["caption"] for window in told if window["caption"] is not None), None)
    if caption is None:
        raise CaptionError(told[0]["status"].removeprefix("failed: "))
    return {"caption": caption, "caption_source": captioner.name, "windows": told}
