"""What a captioner is: pictures of one window of a clip in, one caption out, its tokens counted."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from cosmos_curate.media.frames import Frames


class CaptionError(Exception):
    """One window got no caption, after all tries; the message is the reason, one line."""


@dataclass(frozen=True, kw_only=True)
class Caption:
    """What a captioner says of one window.

    Args:
        text: never empty.
        prompt_tokens: read by the model, pictures included; None where it does not say.
        output_tokens: written by it; None where it does not say.
        truncated: whether it ran into the most tokens that it may write.
    """

    text: str
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    truncated: bool = False


@runtime_checkable
class Captioner(Protocol):
    """A model that captions. Satisfied without inheriting; one thread uses one of them."""

    @property
    def name(self) -> str:
        """The model's name, which the manifest has as `caption_source`."""
        ...

    def caption(self, frames: Frames, /) -> Caption:
        """Caption one window from its frames, at least one, RGB or gray.

        Raises:
            CaptionError: this window gets none.
            InputError: no window would: the model is not there, or may not be used.
        """
        ...


def check_captioner(captioner: Captioner, frames: Sequence[Frames]) -> None:
    """Raise AssertionError, saying what is wrong, unless the captioner keeps its word: the conformance check.

    Args:
        captioner: which.
        frames: some windows to caption; one frame, gray frames and odd sizes are worth a try.
    """
    assert isinstance(captioner, Captioner)
    name = captioner.name
    assert isinstance(name, str), f"name is {name!r}, no text"
    assert name.strip(), "name is empty"
    assert name.isprintable(), f"name is {name!r}, not one line"
    for window in frames:
        before = window.pixels.copy()
        caption = captioner.caption(window)
        assert isinstance(caption, Caption), f"{name} gave a {type(caption).__name__}, no Caption"
        assert caption.text.strip(), f"{name} gave an empty caption"
        assert caption.text == tidy(caption.text), f"{name} gave {caption.text!r}, which is not tidy"
        for count in (caption.prompt_tokens, caption.output_tokens):
            assert count is None or (isinstance(count, int) and count >= 0), f"{name} counted {count!r} tokens"
        assert np.array_equal(before, window.pixels), f"{name} changed its frames"
    assert captioner.name == name, "name changed"


def tidy(text: str) -> str:
    """Return a model's answer without its thoughts, control characters, and space around it.

    Models that reason write `<think>...</think>` first; where they ran out of tokens meanwhile nothing is left.
    Halves of characters that UTF-8 cannot hold become question marks.
    """
    text = re.sub(r"^\s*<think>.*?(</think>|$)", "", text, flags=re.DOTALL)
    text = text.encode("utf-8", "replace").decode()
    return "".join(c for c in text.replace("\r\n", "\n") if c == "\n" or c == "\t" or c.isprintable()).strip()


def rgb(frames: Frames) -> np.ndarray:
    """Return `T H W 3` pixels: gray ones three times over."""
    pixels = frames.pixels
    return pixels if pixels.shape[-1] == 3 else np.repeat(pixels, 3, axis=-1)
