"""Where tokens stand: sines by their formula, and frames in seconds where a network counts them."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from cosmos_diffusion import PRESETS
from cosmos_diffusion.positions import SineCosinePosition

TOY = PRESETS["toy"]


def test_sines_are_those_of_the_formula() -> None:
    """A third of the channels for time, rows and columns each: sines of all rates, then cosines."""
    position = SineCosinePosition(replace(TOY, width=60, heads=2))
    found = position((2, 3, 4), views=2, device=torch.device("cpu"), first=3)
    assert found.shape == (1, 48, 60)
    rates = 10000.0 ** (-torch.arange(10, dtype=torch.float64) / 10)
    for token, (t, h, w) in enumerate([(t, h, w) for t in (3, 4) for h in range(3) for w in range(4)]):
        expected = torch.cat([wave(place * rates) for place in (t, h, w) for wave in (torch.sin, torch.cos)])
        torch.testing.assert_close(found[0, token].double(), expected, atol=1e-6, rtol=0)
    assert torch.equal(found[:, :24], found[:, 24:])


@pytest.mark.parametrize("by_fps", [True, False])
def test_frames_count_in_seconds_where_the_network_says_so(random_net: Callable, by_fps: bool) -> None:
    net = random_net(replace(TOY, rope_fps=by_fps))
    x, c_noise, text = torch.randn(1, 16, 3, 4, 4), torch.randn(1), torch.randn(1, 5, 32)
    with torch.no_grad():
        pictures, usual, slow = (net(x, c_noise, text, fps=fps) for fps in (None, 24, 8))
    assert torch.equal(pictures, usual)
    assert torch.equal(usual, slow) != by_fps
