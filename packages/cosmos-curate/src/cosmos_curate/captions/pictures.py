"""Frames as JPEG pictures in data URLs, as chat endpoints take them."""

import base64

from cosmos_curate.captions.captioner import rgb
from cosmos_curate.media.frames import Frames


def data_urls(frames: Frames, quality: int) -> list[str]:
    """Return one `data:image/jpeg;base64,...` a frame, encoded at a quality from 1 to 100."""
    import cv2

    urls = []
    for picture in rgb(frames):
        done, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
        assert done
        urls.append("data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode())
    return urls
