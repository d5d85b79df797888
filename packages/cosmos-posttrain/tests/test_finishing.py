"""Statistics of latents: those of all processes together, by the formula."""

from typing import Any

import torch

from cosmos_posttrain.parallel import Parallel, ParallelConfig
from cosmos_posttrain.recipes.finishing import measure_statistics
from cosmos_tokenizer import PRESETS, CausalTokenizer


class Together(Parallel):
    """Processes that run one after another, of which the last knows what all had."""

    def __init__(self, config: ParallelConfig) -> None:
        super().__init__(config)
        self.told: list[Any] = []

    def all(self, value: Any) -> list[Any]:
        self.told.append(value)
        return self.told


def test_statistics_are_those_of_all_latents_whoever_measured_them() -> None:
    torch.manual_seed(0)
    model = CausalTokenizer(PRESETS["toy"]).eval()
    with torch.no_grad():
        model.encoder.quant_conv.bias.add_(30)  # far from 0, where sums of squares lose digits
    clips = torch.rand(5, 3, 17, 32, 48) * 2 - 1
    with torch.no_grad():
        z = model.encode(clips).double()
    alone = measure_statistics(model, clips.split(2), Parallel(ParallelConfig()))
    together = Together(ParallelConfig())
    for part in clips.split(3):
        shared = measure_statistics(model, [part], together)
    for found in (alone, shared):
        torch.testing.assert_close(found.mean, z.mean((0, 3, 4)).float())
        torch.testing.assert_close(found.std, z.std((0, 3, 4)).float(), rtol=1e-4, atol=0)
