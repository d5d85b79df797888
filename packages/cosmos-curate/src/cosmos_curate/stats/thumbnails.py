"""Small pictures of clips for a page: three moments side by side, as a JPEG in a data URL."""

import base64
from pathlib import Path

import numpy as np

from cosmos_curate.media.frames import Sampling
from cosmos_curate.media.reading import read_samplings

MOMENTS = Sampling(most=3, short_side=90)


def thumbnail(path: Path) -> str:
    """Return a data URL of the first, middle and last third of a clip.

    Raises:
        Unusable: the clip cannot be decoded.
    """
    import cv2

    frames = read_samplings(str(path), [MOMENTS])[MOMENTS].pixels
    strip = np.concatenate(list(frames), axis=1)
    _, data = cv2.imencode(".jpg", cv2.cvtColor(strip, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 75])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
