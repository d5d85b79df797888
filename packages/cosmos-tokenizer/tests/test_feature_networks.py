"""Networks from TorchScript files: what they are given, and one line for what is no such network."""

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cosmos_tokenizer import InputError
from cosmos_tokenizer.metrics import LPIPS, FeatureNetwork, ImageFeatures, VideoFeatures

Keep = Callable[[nn.Module], Path]


class _Pixels(nn.Module):
    """Everything that is put in, flattened, so that a test sees it."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


class _Switched(nn.Module):
    def forward(self, x: Tensor, rescale: bool = True, resize: bool = True, return_features: bool = False) -> Tensor:
        return torch.tensor([[float(rescale), float(resize), float(return_features), float(x.shape[2])]])


class _Mean(nn.Module):
    def forward(self, x: Tensor, return_features: bool = False) -> Tensor:
        return x.mean((2, 3)) * (1.0 if return_features else -1.0)


class _Spatial(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True)


class _Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


class _NotFinite(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) / 0


class _Long(nn.Module):
    """A network that needs 16 frames."""

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool3d(x, [16, 1, 1]).mean((2, 3, 4))


class _Distance(nn.Module):
    def forward(self, a: Tensor, b: Tensor, normalize: bool = False) -> Tensor:
        return (a - b).abs().amax((1, 2, 3), keepdim=True) + (10.0 if normalize else 0.0)


class _Squared(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return (a - b).square()


@pytest.fixture
def keep(tmp_path: Path) -> Keep:
    def write(module: nn.Module) -> Path:
        path = tmp_path / f"{type(module).__name__}.pt"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.jit.save(torch.jit.script(module), str(path))
        return path

    return write


def _frames(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (*shape, 3), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


@pytest.mark.parametrize("size", [(31, 57), (400, 310), (299, 299)])
def test_a_picture_is_scaled_to_299_in_0_to_255(size: tuple[int, int], keep: Keep) -> None:
    network = ImageFeatures(keep(_Pixels()))
    frames = _frames(1, *size)
    given = network.features(network.prepare(frames)).reshape(3, 299, 299)
    # Each output pixel is a linear blend of two, on each axis, at its centre's place.
    x = frames[0].double()
    for axis, length in enumerate(size):
        place = ((torch.arange(299, dtype=torch.float64) + 0.5) * length / 299 - 0.5).clamp(0, length - 1)
        low = place.floor().long()
        share = (place - low).reshape(-1, 1, 1) if axis == 0 else (place - low).reshape(1, -1, 1)
        a, b = x.index_select(axis, low), x.index_select(axis, (low + 1).clamp(max=length - 1))
        x = a * (1 - share) + b * share
    torch.testing.assert_close(given.double(), x.permute(2, 0, 1), rtol=0, atol=0.02)
    assert isinstance(network, FeatureNetwork)
    assert network.frames == 1


def test_the_features_of_a_file_that_also_gives_classes_are_asked_for(keep: Keep) -> None:
    network = ImageFeatures(keep(_Mean()))
    frames = torch.full((1, 20, 30, 3), 100, dtype=torch.uint8)
    torch.testing.assert_close(network.features(network.prepare(frames)), torch.full((3,), 100.0))


@pytest.mark.parametrize(("height", "width"), [(224, 300), (300, 224), (448, 700), (37, 37), (41, 61), (61, 41)])
def test_a_clip_has_its_short_side_scaled_to_224_and_its_centre_cut_out(height: int, width: int, keep: Keep) -> None:
    network = VideoFeatures(keep(_Pixels()))
    frames = _frames(2, height, width)
    prepared = network.prepare(frames)
    short = min(height, width)
    size = -(-height * 224 // short), -(-width * 224 // short)
    whole = F.interpolate(frames.permute(0, 3, 1, 2).double(), size, mode="bilinear", align_corners=False)
    top, left = (size[0] - 224) // 2, (size[1] - 224) // 2
    expected = whole[..., top : top + 224, left : left + 224] / 127.5 - 1
    torch.testing.assert_close(prepared.double(), expected, rtol=0, atol=2e-4)
    assert prepared.dtype == torch.float32
    features = network.features(prepared).reshape(3, 2, 224, 224)
    assert torch.equal(features, prepared.transpose(0, 1))


def test_switches_of_a_file_are_set_to_raw_input_and_features(keep: Keep) -> None:
    network = VideoFeatures(keep(_Switched()))
    assert network.features(network.prepare(_frames(5, 30, 40))).tolist() == [0.0, 0.0, 1.0, 5.0]
    assert isinstance(network, FeatureNetwork)
    assert network.frames == 300


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (_Spatial(), "gives 1x3x1x1 for 1x3x299x299, and features are B x D"),
        (_Pair(), "gives tuple for 1x3x299x299"),
        (_NotFinite(), "not finite"),
        (_Distance(), "fails on 1x3x299x299"),
    ],
)
def test_a_network_of_something_else_is_one_line(module: nn.Module, words: str, keep: Keep) -> None:
    path = keep(module)
    with pytest.raises(InputError, match=words) as caught:
        ImageFeatures(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("load", [ImageFeatures, VideoFeatures, LPIPS])
def test_a_file_of_something_else_is_one_line(load: Callable[[Path], object], tmp_path: Path, keep: Keep) -> None:
    whole = keep(_Pixels()).read_bytes()
    torch.save({"weight": torch.zeros(3)}, tmp_path / "weights.pt")
    for name, content in {"empty.pt": b"", "text.pt": b"words", "cut.pt": whole[: len(whole) // 2]}.items():
        (tmp_path / name).write_bytes(content)
    for name in ("empty.pt", "text.pt", "cut.pt", "weights.pt", "none.pt", "."):
        words = "no such file" if name in ("none.pt", ".") else "is not a TorchScript network"
        with pytest.raises(InputError, match=words) as caught:
            load(tmp_path / name)
        assert str(caught.value).startswith(str(tmp_path))
        assert "\n" not in str(caught.value)


def test_a_clip_too_short_for_the_network_is_one_line(keep: Keep) -> None:
    network = VideoFeatures(keep(_Long()))
    assert network.features(network.prepare(_frames(16, 30, 40))).shape == (3,)
    with pytest.raises(InputError, match="fails on 1x3x15x224x224") as caught:
        network.features(network.prepare(_frames(15, 30, 40)))
    assert "\n" not in str(caught.value)


def test_frozen_files_are_taken_too(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        frozen = torch.jit.freeze(torch.jit.script(_Mean().eval()))
        torch.jit.save(frozen, str(tmp_path / "frozen.pt"))
    network = ImageFeatures(tmp_path / "frozen.pt")
    assert network.features(network.prepare(_frames(1, 20, 30))).shape == (3,)


def test_lpips_compares_frame_by_frame_in_minus_one_to_one(keep: Keep) -> None:
    a, b = _frames(4, 11, 13), _frames(4, 11, 13, seed=1)
    b[2] = a[2]
    found = LPIPS(keep(_Distance())).per_frame(a, b)
    expected = (a.double() - b.double()).abs().amax((1, 2, 3)) / 127.5
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert found[2] == 0


def test_a_map_is_no_lpips(keep: Keep) -> None:
    with pytest.raises(InputError, match="gives 1x3x64x64 for a pair of pictures"):
        LPIPS(keep(_Squared()))
    with pytest.raises(InputError, match="fails on 1x3x64x64 and 1x3x64x64"):
        LPIPS(keep(_Pixels()))
