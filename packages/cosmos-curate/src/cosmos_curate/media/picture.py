"""A decoded frame as it is shown: turned upright, with square pixels, converted to 8 bits only when and as wanted.

Colour: the stream's own matrix and range tags are obeyed; without a matrix tag a picture wider than 1024 or higher than
576 samples is BT.709 and a smaller one BT.601, without a range tag it is limited, as players do. Transfer curves are
left alone: HDR is not tone-mapped.
"""

from dataclasses import dataclass

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from jaxtyping import UInt8

# FULL_CHR_H_INT, FULL_CHR_H_INP and ACCURATE_RND, SWS_AREA and SWS_BICUBIC, which av names from version 18 on.
_EXACT = 0x2000 | 0x4000 | 0x40000
_AREA, _BICUBIC = 0x20, 0x4
_UNTAGGED = 2  # AVCOL_SPC_UNSPECIFIED
# Newer av converts on as many threads as there are cores unless told otherwise; older av knows one only.
_ONE_THREAD = {"threads": 1} if "threads" in (VideoReformatter.reformat.__doc__ or "") else {}


@dataclass(frozen=True, kw_only=True)
class Orientation:
    """How coded pixels become upright and square: widened by `aspect`, then transposed, then mirrored."""

    aspect: float = 1.0
    transposed: bool = False
    left_right: bool = False
    top_bottom: bool = False

    @property
    def degrees(self) -> int:
        """Clockwise turn, 0, 90, 180 or 270; a mirrored picture's is that of its columns."""
        if self.transposed:
            return 270 if self.top_bottom else 90
        return 180 if self.left_right else 0


def orientation(frame: av.VideoFrame, aspect: float) -> Orientation:
    """Read a frame's display matrix, to the nearest quarter turn; `aspect` is width over height of one pixel."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return Orientation(aspect=aspect)
    # Shown x is m[0] * x + m[3] * y, and shown y is m[1] * x + m[4] * y.
    m = np.frombuffer(bytes(data), np.int32)
    transposed = abs(int(m[1])) > abs(int(m[0]))
    across, down = (m[3], m[1]) if transposed else (m[0], m[4])
    return Orientation(aspect=aspect, transposed=transposed, left_right=bool(across < 0), top_bottom=bool(down < 0))


class Picture:
    """A decoded frame; `height` and `width` are as shown, upright and with square pixels. Nothing is converted yet.

    It holds one of the decoder's buffers: take the pixels and let it go.
    """

    def __init__(self, frame: av.VideoFrame, turn: Orientation, convert: VideoReformatter) -> None:
        self._frame, self._convert = frame, convert
        self.orientation = turn
        coded = frame.height, max(1, round(frame.width * turn.aspect))
        self.height, self.width = coded[::-1] if turn.transposed else coded

    def blank(self, pixel_format: str) -> av.VideoFrame:
        """Return a new frame of the same size, colors and tags to be filled, in another format than this one's."""
        return VideoReformatter().reformat(self._frame, format=pixel_format)

    @property
    def coded_size(self) -> tuple[int, int]:
        """Height and width as coded, before it is turned."""
        return self._frame.height, self._frame.width

    @property
    def pixel_format(self) -> str:
        """As FFmpeg names it."""
        return self._frame.format.name

    @property
    def duration_s(self) -> float | None:
        """How long the file says that the frame is shown; None where it does not say."""
        duration, base = self._frame.duration, self._frame.time_base
        return float(duration * base) if duration and base else None

    @property
    def is_rgb(self) -> bool:
        """Whether the video is coded in RGB."""
        return self._frame.format.is_rgb

    @property
    def assumed_matrix(self) -> Colorspace | None:
        """The matrix that an untagged picture is taken to have; None where it is tagged."""
        if self._frame.colorspace != _UNTAGGED:
            return None
        return Colorspace.ITU709 if self._frame.width > 1024 or self._frame.height > 576 else Colorspace.ITU601

    def pixels(self, size: tuple[int, int] | None = None, *, gray: bool = False) -> UInt8[np.ndarray, "H W C"]:
        """Convert to RGB of full range, 0 to 255, or to luma alone.

        Args:
            size: height and width wanted, of the upright picture, by area averaging; None for those shown.
            gray: one channel.
        """
        frame, turn = self._frame, self.orientation
        height, width = size or (self.height, self.width)
        if turn.transposed:
            height, width = width, height
        smaller = height < frame.height or width < frame.width
        samples = ColorRange(frame.color_range)
        if samples == ColorRange.UNSPECIFIED:
            full = frame.format.is_rgb or frame.format.name.startswith(("yuvj", "gray", "ya"))
            samples = ColorRange.JPEG if full else ColorRange.MPEG
        pixels = self._convert.reformat(
            frame,
            height=height,
            width=width,
            format="gray" if gray else "rgb24",
            interpolation=_EXACT | (_AREA if smaller else _BICUBIC),
            src_colorspace=self.assumed_matrix,
            src_color_range=samples,
            dst_color_range=ColorRange.JPEG,
            **_ONE_THREAD,
        ).to_ndarray()
        if gray:
            pixels = pixels[..., None]
        if turn.transposed:
            pixels = pixels.swapaxes(0, 1)
        return np.ascontiguousarray(pixels[:: -1 if turn.top_bottom else 1, :: -1 if turn.left_right else 1])


def fitted(height: int, width: int, short_side: int | None) -> tuple[int, int]:
    """Return height and width with the shorter side brought down to `short_side`, in proportion; never enlarged."""
    short = min(height, width)
    if short_side is None or short <= short_side:
        return height, width
    return max(1, round(height * short_side / short)), max(1, round(width * short_side / short))
