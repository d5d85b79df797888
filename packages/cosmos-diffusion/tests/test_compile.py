"""torch.compile of the network without graph breaks, compiled once for all levels of a loop.

In a process of its own: pytest's option that checks shapes at run time wraps every function in what cannot be traced.
"""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from cosmos_diffusion import PRESETS, DiTConfig, WorldModel
from cosmos_diffusion.samplers import euler
from cosmos_diffusion.sigmas import schedule

VIDEO = PRESETS["toy-video"]
FORMS = {
    "text": PRESETS["toy"],
    "video": VIDEO,
    "2.5": replace(VIDEO, position="none", rope_fps=False, text_projection=40, prediction="rectified"),
    "views": replace(VIDEO, views=3, position="sincos"),
}


@pytest.mark.slow
def test_graphs_are_whole_and_compiled_once() -> None:
    command = [sys.executable, "-W", "error", __file__]
    found = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert found.returncode == 0, found.stderr[-3000:]


def check(config: DiTConfig) -> None:
    """Compile with breaks forbidden, and compare loops with an eager one; one graph serves all their steps."""
    torch.manual_seed(0)
    world = WorldModel(config).eval()
    for parameter in world.parameters():
        torch.nn.init.normal_(parameter, std=0.08)
    views = max(1, config.views)
    text = torch.randn(2, 8 * views, config.text_projection or config.text_width)
    text.unflatten(1, (views, -1))[:, :, 5:] = 0
    given = world.given(torch.randn(2, 16, views, 4, 6), 2 * views) if config.condition_mask else None
    x = 80 * torch.randn(2, 16, 2 * views, 4, 6)
    sigmas = schedule(config.prediction, 4)

    def sample() -> torch.Tensor:
        return euler(world.denoiser(text, guidance=2, fps=24, given=given), x, sigmas)

    graphs: list[torch.fx.GraphModule] = []

    def eager(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    world.net.compile(fullgraph=True, backend=eager, dynamic=False)
    found = [sample() for _ in range(2)]
    with torch.compiler.set_stance("force_eager"):
        wanted = sample()
    for one in found:
        torch.testing.assert_close(one, wanted, atol=1e-5, rtol=1e-5)
    assert len(graphs) == 1, f"compiled {len(graphs)} times"


if __name__ == "__main__":
    for form in FORMS.values():
        check(form)
        torch._dynamo.reset()
