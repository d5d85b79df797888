"""Short prompts to the long captions that the released models were trained on (arXiv 2501.03575, section 5.1).

Off unless a person gives a language model. Whoever has a guard asks it before and after.
"""

import re
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from cosmos_diffusion.chat import Chat, Frame, Sampling
from cosmos_tokenizer import InputError
from cosmos_tokenizer.media import open_media

LONGEST = 250
"""Words of a prompt above which it stands as it is."""
LARGEST_SIDE = 1024
"""Pixels of a frame that a language model is shown."""

TEXT_SAMPLING = Sampling(temperature=0.01, tokens=512)
VIDEO_SAMPLING = Sampling(temperature=0.01, tokens=400, top_p=0.9)

_TEXT_INSTRUCTION = (
    "Here is a short caption of a video. Upsample it: write one long, detailed caption of the same video. Keep all "
    "that the short caption says, and add what a camera would see: the place, the light, the things in it and how "
    "they look, how each of them moves from the first second to the last, and what the camera does. Answer with the "
    "caption alone, in one paragraph.\n\nShort caption: "
)
_VIDEO_INSTRUCTION = (
    "This picture is one frame of a video. Write a caption of the video that goes on from here, in at most 150 words: "
    "describe the scene, the things in it and how they look, then what plausibly happens in the next seconds, how "
    "each thing moves and what the camera does. Say only what this frame supports, invent no cuts, and do not mention "
    "that you were shown a picture. Answer with the caption alone, in one paragraph."
)

_SHORTEST_LABEL = 10
"""Words from which a bold bullet is a sentence and no label."""
_LABEL = re.compile(r"[-*•] \*\*(.*?)\*\*:?")
_MARKERS = re.compile(r"(?:caption:|#+|[-*•](?=\s)|[,:])\s*", re.IGNORECASE)


def upsample_text(prompt: str, chat: Chat) -> str:
    """The long caption of a prompt, for Text2World; a prompt of more than 250 words comes back as it is.

    Raises:
        InputError: there is no answer, or nothing is left of it.
    """
    if _is_long(prompt):
        return prompt
    return _cleaned_answer(chat.reply(_TEXT_INSTRUCTION + " ".join(prompt.split()), None, TEXT_SAMPLING))


def upsample_video(frame: Frame, chat: Chat, *, prompt: str = "") -> str:
    """The caption of what follows on a frame, for Video2World: of the picture, or the last frame of the video.

    The prompt plays no part in it, but one of more than 250 words comes back as it is.

    Raises:
        InputError: there is no answer, or nothing is left of it.
    """
    if _is_long(prompt):
        return prompt
    return _cleaned_answer(chat.reply(_VIDEO_INSTRUCTION, shrunk(frame), VIDEO_SAMPLING))


def last_frame(path: str | Path) -> Frame:
    """The frame to show of a file: a picture itself, and of a video its last.

    Raises:
        InputError: it cannot be read.
    """
    with open_media(path) as footage:
        last = None
        for frame in footage.frames:
            last = frame
    assert last is not None  # a file without frames does not open
    return last


def shrunk(frame: Frame) -> UInt8[np.ndarray, "h w 3"]:
    """The frame with its larger side brought down to 1024 pixels; a smaller one as it is."""
    height, width = frame.shape[:2]
    if max(height, width) <= LARGEST_SIDE:
        return frame
    by = LARGEST_SIDE / max(height, width)
    size = max(1, round(width * by)), max(1, round(height * by))
    return np.array(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS))


def clean(answer: str) -> str:
    """A language model's answer as a caption: one line, without the bold labels of bullets and without a heading mark.

    A bold bullet of ten words and more is a sentence, and stays.
    """
    text = " ".join(answer.split())
    text = _LABEL.sub(lambda found: "" if len(found[1].split()) < _SHORTEST_LABEL else found[0], text)
    text = " ".join(text.split())
    while marker := _MARKERS.match(text):
        text = text[marker.end() :]
    return text


def _cleaned_answer(answer: str) -> str:
    caption = clean(answer)
    if not caption:
        raise InputError(f"the upsampler answered {answer[:60]!r}, which holds no caption; upsample no prompt")
    return caption


def _is_long(prompt: str) -> bool:
    return len(prompt.split()) > LONGEST
