"""2-D convolutions in the place of 3-D ones: the same numbers, and only where they can be."""

import pytest
import torch
from torch import nn

from cosmos_curate.shots.planar import Spatial, Temporal, flatten_convolutions


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (Spatial, {"kernel_size": (1, 3, 3), "padding": (0, 1, 1), "bias": False}),
        (Spatial, {"kernel_size": (1, 3, 5), "padding": (0, 0, 2)}),
        (Temporal, {"kernel_size": (3, 1, 1), "padding": (2, 0, 0), "dilation": (2, 1, 1)}),
        (Temporal, {"kernel_size": (5, 1, 1), "bias": False}),
        (nn.Conv3d, {"kernel_size": (3, 3, 3), "padding": 1}),
        (nn.Conv3d, {"kernel_size": (1, 3, 3), "padding": 1}),
        (nn.Conv3d, {"kernel_size": (1, 3, 3), "dilation": (1, 2, 2)}),
        (nn.Conv3d, {"kernel_size": (3, 1, 1), "stride": (2, 1, 1)}),
        (nn.Conv3d, {"kernel_size": (3, 1, 1), "padding": (1, 0, 0), "padding_mode": "replicate"}),
        (nn.Conv3d, {"kernel_size": (1, 3, 3), "padding": "same"}),
        (nn.Conv3d, {"kernel_size": (1, 3, 3), "groups": 2}),
    ],
)
@torch.no_grad()
def test_numbers_are_those_of_the_3d_convolution(kind, settings):
    torch.manual_seed(0)
    network = nn.Sequential(nn.ReLU(), nn.Sequential(nn.Conv3d(4, 6, **settings)))
    x = torch.randn(2, 4, 9, 7, 11)
    wanted = network(x)
    flatten_convolutions(network)
    assert type(network[1][0]) is kind
    assert torch.allclose(network(x), wanted, atol=1e-5)
