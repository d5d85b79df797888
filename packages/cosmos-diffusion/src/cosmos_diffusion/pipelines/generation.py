"""What pipelines return: clips, and how each was made."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

import cosmos_tokenizer
from cosmos_diffusion._version import __version__
from cosmos_diffusion.pipelines.guard import Watch
from cosmos_diffusion.pipelines.request import Request
from cosmos_diffusion.pipelines.texts import Said, Texts


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Generation:
    """Clips of one call, on the CPU. Of views, ``T`` counts the frames of all, one view behind another.

    `video`: in [-1, 1], in float32; each clip begins with the frames that it was given, bit for bit, but for what a
    guard changed. `latents`: at the scale of the data, as sampled.
    `metadata`: what all have in common, and under "clips" what each has of its own; all of it JSON.
    `cancelled`: a callback ended the run; there are the clips that were whole by then, which may be none.
    """

    video: Float[Tensor, "B 3 T H W"]
    latents: Float[Tensor, "B C t h w"]
    fps: int | float
    metadata: dict[str, Any]
    cancelled: bool = False


def common(
    request: Request,
    names: Mapping[str, Any],
    watch: Watch,
    *,
    condition_frames: int,
    views: int,
    augment: int | float | None,
) -> dict[str, Any]:
    """What all clips of a call have in common; ``names`` is what the pipeline knows of its parts."""
    guidance = request.guidance
    return {
        **names,
        "frames": request.frames,
        "height": request.height,
        "width": request.width,
        "fps": float(request.fps),
        "views": views,
        "condition_frames": condition_frames,
        "augment": augment,
        "steps": request.steps,
        "sampler": request.sampler_name,
        "guidance": {
            "weight": guidance.weight,
            "convention": guidance.convention,
            "low": guidance.low,
            "high": guidance.high if math.isfinite(guidance.high) else None,
            "frames": request.guide_frames,
        },
        "guard": watch.said(),
        "versions": {
            "cosmos-diffusion": __version__,
            "cosmos-tokenizer": cosmos_tokenizer.__version__,
            "torch": str(torch.__version__),
        },
    }


def of_clip(seed: int, texts: Texts, watch: Watch, reused: int | None) -> dict[str, Any]:
    """What a clip has of its own; ``reused`` are the steps that a cache saved, None without one."""
    return {
        "seed": seed,
        "prompt": _plain(texts.prompts[0]),
        "upsampled_prompt": _plain(texts.upsampled[0]),
        "negative": texts.negative_prompt,
        "text_cut": texts.cut,
        "negative_left_out": texts.negative_left_out,
        "guided_by_text": texts.guided,
        "steps_reused": reused,
        "guard_on_video": watch.video_verdict,
    }


def _plain(said: Said) -> str | list[str] | None:
    return list(said) if isinstance(said, tuple) else said


def joined(clips: Sequence[Generation], empty: Generation) -> Generation:
    """Generations of one clip each as one; ``empty`` is that of no clip, and says how the run ended."""
    every = [empty, *clips]
    return Generation(
        video=torch.cat([each.video for each in every]),
        latents=torch.cat([each.latents for each in every]),
        fps=empty.fps,
        metadata={**empty.metadata, "clips": [clip for each in every for clip in each.metadata["clips"]]},
        cancelled=empty.cancelled,
    )
