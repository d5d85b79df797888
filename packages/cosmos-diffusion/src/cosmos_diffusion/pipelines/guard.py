"""What pipelines ask of a guard of prompts and videos, and what it said; anything with these members is one.

A guard stands where arXiv 2501.03575, section 7, has its: before the work, on the prompt and once more on what an
upsampler made of it, and behind it, on the frames. One that fails lets nothing pass: its error is the run's.
"""

from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from cosmos_tokenizer import InputError
from cosmos_tokenizer.media import to_clip, to_frames

Frames = UInt8[np.ndarray, "T H W 3"]


@runtime_checkable
class PromptVerdict(Protocol):
    """Of a prompt. `allowed`: whether it may be used. `reason`: in one line, why not, or what was checked."""

    @property
    def allowed(self) -> bool: ...

    @property
    def reason(self) -> str: ...


@runtime_checkable
class VideoVerdict(PromptVerdict, Protocol):
    """Of a clip. `frames`: those to show, faces made unknowable for instance; None where none may be shown."""

    @property
    def frames(self) -> Frames | None: ...


@runtime_checkable
class Guard(Protocol):
    """Satisfied without inheriting."""

    def check_prompt(self, text: str, /) -> PromptVerdict:
        """Judge a prompt, or what an upsampler made of it."""
        ...

    def check_video(self, frames: Frames, /) -> VideoVerdict:
        """Judge the frames of one clip; of views, those of each one behind another."""
        ...


class RefusedError(InputError):
    """A guard let a prompt or a clip not pass."""


class Watch:
    """A guard, or none, over one run; it keeps what was said."""

    def __init__(self, guard: Guard | None) -> None:
        self._guard = guard
        self._prompts: list[dict[str, Any]] = []
        self.video_verdict: dict[str, Any] | None = None
        """On the last clip."""

    def prompt(self, text: str) -> None:
        """Have a prompt judged.

        Raises:
            RefusedError: it may not be used.
        """
        if self._guard is None:
            return
        verdict = self._guard.check_prompt(text)
        self._prompts.append({"text": text, "allowed": verdict.allowed, "reason": verdict.reason})
        if not verdict.allowed:
            raise RefusedError(f"the guard refuses the prompt {text[:60]!r}: {verdict.reason}")

    def video(self, video: Float[Tensor, "1 3 T H W"]) -> Float[Tensor, "1 3 T H W"]:
        """A clip in [-1, 1] as it may be shown: the same tensor where the guard changed no frame.

        Raises:
            RefusedError: it may not be shown at all.
        """
        if self._guard is None:
            return video
        frames = to_frames(video)
        verdict = self._guard.check_video(frames.copy())  # a guard may work in place
        shown = verdict.frames if verdict.allowed else None
        if shown is None:
            raise RefusedError(f"the guard refuses the video: {verdict.reason}")
        if shown.shape != frames.shape:
            raise RefusedError(f"the guard returned frames of shape {shown.shape}, and they are {frames.shape}")
        changed = torch.from_numpy((shown != frames).any(axis=-1)).to(video.device)
        self.video_verdict = {
            "allowed": True,
            "reason": verdict.reason,
            "changed_frames": int(changed.any((1, 2)).sum()),
        }
        return torch.where(changed, to_clip(shown, video.device), video) if bool(changed.any()) else video

    def said(self) -> dict[str, Any]:
        """For the metadata: whether a guard is on, and its verdicts on prompts."""
        return {"on": False} if self._guard is None else {"on": True, "prompts": list(self._prompts)}
