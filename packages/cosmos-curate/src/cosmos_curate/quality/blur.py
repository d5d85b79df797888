"""Share of edges that are soft, by the ratio of gradients before and after a known blur (Zhuo and Sim, 2011).

Defocus map estimation from a single image, Pattern Recognition 44(9), section 3: across a step blurred by a Gaussian
of deviation s, blurring again by s0 divides the gradient by sqrt(1 + (s0 / s)^2).
"""

import numpy as np
from jaxtyping import Float32

_SMOOTH, _AGAIN = 0.7, 1.2
_OWN = _SMOOTH**2 + 1 / 3
"""Variance that the smoothing before and the central difference add to an edge."""
_FAINT = 2.0
_SOFT = 1.3


def edge_widths(luma: Float32[np.ndarray, "H W"]) -> Float32[np.ndarray, "E"]:
    """Return the deviation of the blur at each edge pixel, in pixels; empty for a picture without an edge.

    Edges are maxima of the gradient along its main axis that exceed 2 levels a pixel and twice the picture's mean.
    """
    import cv2

    smooth = cv2.GaussianBlur(luma, (0, 0), _SMOOTH)
    across, down = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=0.125), cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=0.125)
    steep = cv2.magnitude(across, down)
    level = np.abs(across) >= np.abs(down)
    inner = (slice(1, -1), slice(1, -1))
    here = steep[inner]
    beside = np.where(
        level[inner],
        np.maximum(steep[1:-1, :-2], steep[1:-1, 2:]),
        np.maximum(steep[:-2, 1:-1], steep[2:, 1:-1]),
    )
    edges = (here >= beside) & (here > max(_FAINT, 2 * float(steep.mean(dtype=np.float64))))
    again = cv2.GaussianBlur(smooth, (0, 0), _AGAIN)
    gentle = cv2.magnitude(
        cv2.Sobel(again, cv2.CV_32F, 1, 0, scale=0.125), cv2.Sobel(again, cv2.CV_32F, 0, 1, scale=0.125)
    )
    ratio = here[edges] / np.maximum(gentle[inner][edges], 1e-3)
    width = _AGAIN / np.sqrt(np.maximum(ratio * ratio - 1, 1e-3))
    return np.sqrt(np.maximum(width * width - _OWN, 0)).astype(np.float32)


def soft_share(luma: Float32[np.ndarray, "H W"]) -> float:
    """Return the share of edges wider than 1.3 pixels (more above 720 lines, in proportion), from 0 to 1.

    A picture without an edge counts as soft: 1.
    """
    widths = edge_widths(luma)
    if not widths.size:
        return 1.0
    return float(np.mean(widths > _SOFT * max(1.0, min(luma.shape) / 720)))
