"""Muon: singular values, the Adam half against torch's, convolutions as matrices, masked rows stay untouched."""

from typing import Any

import pytest
import torch
from torch import nn

from cosmos_posttrain.muon import Muon, orthogonalise


@pytest.mark.parametrize("shape", [(5, 12), (12, 5), (6, 2, 3, 3), (4, 7, 3)])
def test_orthogonalised_updates_have_singular_values_near_one(shape: tuple[int, ...]) -> None:
    update = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    got = orthogonalise(update)
    assert got.shape == update.shape
    values = torch.linalg.svdvals(got.flatten(1))
    assert values.min() > 0.6
    assert values.max() < 1.3
    u, _, v = torch.linalg.svd(update.flatten(1), full_matrices=False)
    assert torch.nn.functional.cosine_similarity(got.flatten(), (u @ v).flatten(), dim=0) > 0.97


def test_vectors_follow_adam() -> None:
    ours, theirs = (nn.Parameter(torch.linspace(-1, 1, 7)) for _ in range(2))
    mine = Muon([ours], lr=1e-2)
    adam = torch.optim.Adam([theirs], lr=1e-2, betas=(0.9, 0.99))
    for step in range(5):
        for parameter, optimizer in ((ours, mine), (theirs, adam)):
            optimizer.zero_grad()
            ((parameter - step) ** 2 * torch.arange(1.0, 8.0)).sum().backward()
            optimizer.step()
    torch.testing.assert_close(ours, theirs)


def test_vectors_decay_as_adamw_has_it() -> None:
    ours, theirs = (nn.Parameter(torch.linspace(-1, 1, 7)) for _ in range(2))
    mine = Muon([ours], lr=1e-2, weight_decay=0.3)
    adam = torch.optim.AdamW([theirs], lr=1e-2, betas=(0.9, 0.99), weight_decay=0.3)
    for step in range(5):
        for parameter, optimizer in ((ours, mine), (theirs, adam)):
            parameter.grad = torch.linspace(-2, 3, 7) * (step - 1.5)
            optimizer.step()
    torch.testing.assert_close(ours, theirs)


def test_matrices_shrink_before_their_update() -> None:
    free, decayed = (nn.Parameter(torch.linspace(-1, 1, 12).reshape(3, 4)) for _ in range(2))
    begun = free.detach().clone()
    for parameter, decay in ((free, 0.0), (decayed, 0.5)):
        parameter.grad = torch.linspace(1, -2, 12).reshape(3, 4).sin()
        Muon([parameter], lr=0.1, weight_decay=decay).step()
    torch.testing.assert_close(decayed, free - 0.1 * 0.5 * begun)


@pytest.mark.parametrize("decay", [-0.1, float("nan")])
def test_a_senseless_decay_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match=f"weight_decay value: {decay}"):
        Muon([nn.Parameter(torch.zeros(2, 2))], lr=0.1, weight_decay=decay)


def test_a_matrix_update_has_the_stated_size() -> None:
    parameter = nn.Parameter(torch.zeros(16, 8, 3, 3))
    parameter.grad = torch.randn(16, 8, 3, 3, generator=torch.Generator().manual_seed(0))
    Muon([parameter], lr=0.5).step()
    rms = parameter.detach().square().mean().sqrt()
    assert rms == pytest.approx(0.5 * 0.2, rel=0.15)


def test_rows_and_columns_without_gradient_stay() -> None:
    parameter = nn.Parameter(torch.ones(6, 5))
    for _ in range(3):
        parameter.grad = torch.randn(6, 5)
        parameter.grad[-2:] = 0
        parameter.grad[:, -1] = 0
        optimizer = Muon([parameter], lr=0.1)
        optimizer.step()
    assert torch.equal(parameter[-2:], torch.ones(2, 5))
    assert torch.equal(parameter[:, -1], torch.ones(6))
    assert not torch.equal(parameter[:4, :4], torch.ones(4, 4))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"momentum": 1.0}, "momentum value: 1.0"),
        ({"momentum": float("nan")}, "momentum value: nan"),
        ({"betas": (0.9, -0.1)}, "beta value: -0.1"),
        ({"eps": -1e-8}, "epsilon value: -1e-08"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"Invalid {said}"):
        Muon([nn.Parameter(torch.zeros(2, 2))], **{"lr": 1e-2, **options})
