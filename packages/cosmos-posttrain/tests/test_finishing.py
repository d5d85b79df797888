"""Statistics of latents: those of all processes together, by the formula."""

from types import SimpleNamespace
from typing import cast

import torch

from cosmos_posttrain.parallel import Parallel, ParallelConfig
from cosmos_posttrain.recipes.finishing import measure_statistics
from cosmos_tokenizer import PRESETS, CausalTokenizer


def test_statistics_are_those_of_all_latents_whoever_measured_them() -> None:
    torch.manual_seed(0)
    model = CausalTokenizer(PRESETS["toy"]).eval()
    with torch.no_grad():
        model.encoder.quant_conv.bias.add_(30)  # far from 0, where sums of squares lose digits
    clips = torch.rand(5, 3, 17, 32, 48) * 2 - 1
    with torch.no_grad():
        z = model.encode(clips).double()
    alone = measure_statistics(model, clips.split(2), Parallel(ParallelConfig()))
    told: list[object] = []

    def gather(value: object) -> list[object]:
        told.append(value)
        return told

    for part in clips.split(3):
        processes = cast("Parallel", SimpleNamespace(device=torch.device("cpu"), all=gather))
        shared = measure_statistics(model, [part], processes)
    for found in (alone, shared):
        torch.testing.assert_close(found.mean, z.mean((0, 3, 4)).float())
        torch.testing.assert_close(found.std, z.std((0, 3, 4)).float(), rtol=1e-4, atol=0)
