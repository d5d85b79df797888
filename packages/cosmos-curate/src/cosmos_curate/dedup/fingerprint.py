"""Perceptual hash of a clip: signs of the low frequencies of four of its frames (pHash), as hexadecimal digits.

A frame is averaged to 32x32 luma; of its cosine transform the 64 lowest frequencies but the mean are compared with
their median. Re-encoding and rescaling move few of them across it; a crop, a flip or another moment moves many.

A frame without contrast has no signs to speak of: its hash is 16 zeros, which no other frame can have, and says
nothing about the clip. A clip of such frames alone (black, white, a fade's end) is a copy of none by this hash, so that
dark clips do not all fall together; equal bytes or embeddings may still say so.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import UInt8, UInt64

from cosmos_curate.media.frames import Frames, Sampling
from cosmos_curate.stage import Columns, Item, Process, Stage

FRAMES = 4
BLANK = "0" * 16
"""The hash of a frame whose luma hardly varies."""
SAMPLING = Sampling(most=FRAMES, short_side=64, gray=True)
SIDE = 32
LEAST_DEVIATION = 2.0
"""Standard deviation of luma, of 255, below which a frame is blank: what coarse quantisation alone can make."""


def fingerprint_stage() -> Stage:
    """Return the stage that writes `phash`: 16 hexadecimal digits for each of up to four frames, in order."""
    return Stage(
        name="fingerprint",
        version=1,
        over="clip",
        open=open_fingerprint,
        writes=("phash",),
        samplings=(SAMPLING,),
    )


def open_fingerprint() -> Process:
    """Return the function of the stage; it has nothing to load."""
    return fingerprint


def fingerprint(item: Item, frames: Mapping[Sampling, Frames]) -> Columns:
    """Hash the clip's frames."""
    return {"phash": "".join(frame_hash(picture[:, :, 0]) for picture in frames[SAMPLING].pixels)}


def frame_hash(luma: UInt8[np.ndarray, "H W"]) -> str:
    """Return the frame's 64 bits as 16 hexadecimal digits, lowest frequency first; `BLANK` without contrast."""
    import cv2

    small = cv2.resize(luma.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float64)
    if small.std() < LEAST_DEVIATION:
        return BLANK
    transform = cosines()
    rows, columns = lowest()
    values = (transform @ small @ transform.T)[rows, columns]
    return np.packbits(values > np.median(values)).tobytes().hex()


def cosines() -> np.ndarray:
    """Return the first rows of the orthogonal DCT-II over `SIDE` samples."""
    frequency, sample = np.arange(12)[:, None], np.arange(SIDE)[None]
    return np.cos(np.pi * frequency * (2 * sample + 1) / (2 * SIDE))


def lowest() -> tuple[np.ndarray, np.ndarray]:
    """Return row and column of the 64 lowest frequencies, the mean left out."""
    rows, columns = np.divmod(np.arange(144), 12)
    order = np.lexsort((columns, rows + columns))[1:65]
    return rows[order], columns[order]


def words(phash: str) -> UInt64[np.ndarray, "F"]:
    """Return a clip's hash as one 64-bit word a frame; 0 is a blank frame."""
    return np.frombuffer(bytes.fromhex(phash), ">u8").astype(np.uint64)
