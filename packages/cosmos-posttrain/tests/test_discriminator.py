"""The 3-D patch discriminator: shapes, what a logit sees, images and still clips."""

import pytest
import torch

from cosmos_posttrain.networks import PatchDiscriminator
from cosmos_tokenizer import InputError


@pytest.mark.parametrize(
    ("shape", "logits"),
    [((2, 3, 1, 32, 40), (1, 4, 5)), ((2, 3, 9, 33, 41), (3, 4, 5)), ((1, 3, 17, 8, 8), (5, 1, 1))],
)
def test_every_patch_of_every_clip_has_a_logit(shape: tuple[int, ...], logits: tuple[int, ...]) -> None:
    network = PatchDiscriminator(width=8)
    assert network(torch.rand(shape)).shape == (shape[0], 1, *logits)


def test_an_image_is_judged_as_the_still_clip_of_it() -> None:
    network = PatchDiscriminator(width=8).double()
    image = torch.rand(2, 3, 1, 24, 31, dtype=torch.float64)
    still = network(image.expand(-1, -1, 9, -1, -1))
    torch.testing.assert_close(still, network(image).expand_as(still))


def test_clips_of_a_batch_do_not_influence_one_another() -> None:
    network = PatchDiscriminator(width=8)
    clips = torch.rand(3, 3, 5, 24, 24)
    torch.testing.assert_close(network(clips)[1:2], network(clips[1:2]))


def test_a_logit_sees_a_patch_of_38_pixels_and_17_frames() -> None:
    network = PatchDiscriminator(width=8).double()
    network.norms = torch.nn.ModuleList(torch.nn.Identity() for _ in network.norms)  # which see the whole clip
    clip = torch.rand(1, 3, 41, 80, 80, dtype=torch.float64, requires_grad=True)
    logits = network(clip)
    middle = [size // 2 for size in logits.shape[2:]]
    [gradient] = torch.autograd.grad(logits[0, 0, middle[0], middle[1], middle[2]], clip)
    seen = gradient[0].abs().sum(0) > 0
    extents = [torch.nonzero(seen.any(dim=other)).flatten() for other in ((1, 2), (0, 2), (0, 1))]
    assert [int(extent[-1] - extent[0]) + 1 for extent in extents] == [17, 38, 38]


def test_frames_too_small_and_odd_widths_are_refused() -> None:
    with pytest.raises(InputError, match="at least 8x8, not 7x9"):
        PatchDiscriminator(width=8)(torch.zeros(1, 3, 1, 7, 9))
    with pytest.raises(InputError, match="width 12"):
        PatchDiscriminator(width=12)


def test_layers_beyond_the_fourth_stay_as_wide_and_logits_get_sparser() -> None:
    network = PatchDiscriminator(width=8, layers=5)
    assert [conv.out_channels for conv in network.convs] == [8, 16, 32, 64, 64]
    assert network(torch.zeros(1, 3, 9, 64, 64)).shape == (1, 1, 3, 2, 2)
