"""The ablation's script: each variant lacks what its name says and nothing else, and a short run prints every row."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

from cosmos_posttrain import holdout
from cosmos_tokenizer import InputError
from cosmos_tokenizer.attention import TemporalAttention
from cosmos_tokenizer.layers import FactorisedConv, TemporalConv

FOLDER = Path(__file__).parents[1] / "benchmarks"
CAUSAL = [
    "baseline",
    "without wavelet",
    "not factorised",
    "baseline, scaled patches",
    "without wavelet, scaled patches",
]
NAMES = [*CAUSAL[:2], "not causal", *CAUSAL[2:]]
SIZES = 2, 3, 9, 32, 48


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    """The script as a module, which finds its neighbours as it does when it is run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        spec = importlib.util.spec_from_file_location("ablation_script", FOLDER / "ablation.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module
    for name in ("ablation_runs", "ablation_variants"):
        del sys.modules[name]


@pytest.fixture(scope="module")
def variants(script: ModuleType) -> ModuleType:
    return sys.modules["ablation_variants"]


@pytest.fixture
def clips() -> Tensor:
    return torch.rand(SIZES, generator=torch.Generator().manual_seed(0)) * 2 - 1


def change_from(frame: int, run: Callable[[Tensor], Tensor], x: Tensor, axis: int) -> Tensor:
    """Largest change of each frame of the result when the frames from this one on change."""
    other = x.clone()
    other.narrow(axis, frame, x.shape[axis] - frame).mul_(-1)
    with torch.no_grad():
        difference = (run(x) - run(other)).abs()
    return difference.movedim(axis, 0).flatten(1).amax(1)


@pytest.mark.parametrize("name", CAUSAL)
def test_later_frames_change_no_earlier_output_of_a_causal_variant(
    variants: ModuleType, clips: Tensor, name: str
) -> None:
    change = change_from(5, variants.build(name, 0, clips), clips, 2)
    assert change[:5].max() < 1e-5
    assert change[5:].min() > 1e-4


def test_the_last_frame_changes_the_first_output_of_the_one_that_is_not_causal(
    variants: ModuleType, clips: Tensor
) -> None:
    model = variants.build("not causal", 0, clips)
    assert change_from(5, model, clips, 2).min() > 1e-3
    assert not [layer for layer in model.modules() if type(layer) in (TemporalConv, TemporalAttention)]


def test_centred_convolution_reaches_one_frame_either_way(variants: ModuleType) -> None:
    layer, x = variants.CentredConv(4, 5), torch.randn(2, 7, 4, 3, 2)
    padded = torch.cat([x[:, :1], x, x[:, -1:]], dim=1)
    expected = torch.stack([layer.weight[:, :, k] for k in range(3)], 0)
    y = sum(torch.einsum("btchw,dc->btdhw", padded[:, k : k + 7], expected[k]) for k in range(3))
    torch.testing.assert_close(layer(x), y + layer.bias[:, None, None])


def test_unmasked_attention_hands_later_frames_to_earlier_ones(variants: ModuleType) -> None:
    x = torch.randn(2, 5, 8, 3, 2)
    masked, unmasked = TemporalAttention(8, 1), variants.UnmaskedAttention(8, 1)
    unmasked.load_state_dict(masked.state_dict())
    assert change_from(3, masked, x, 1)[:3].max() == 0
    assert change_from(3, unmasked, x, 1)[:3].min() > 1e-4
    torch.testing.assert_close(unmasked(x)[:, -1], masked(x)[:, -1])


def test_pixel_patches_hold_every_pixel_and_go_back_exactly(variants: ModuleType, clips: Tensor) -> None:
    patch, unpatch = (kind(variants.CONFIG) for kind in (variants.PixelPatch, variants.PixelUnpatch))
    y = patch(clips, start=True)
    assert y.shape == (2, 3, 192, 8, 12)
    assert torch.equal(unpatch(y, start=True), clips)
    assert torch.equal(y[:, 1, :3, 0, 0], clips[:, :, 1, 0, 0])
    assert torch.equal(y[:, 2, -3:, 7, 11], clips[:, :, 8, 31, 47])
    assert torch.equal(y[:, 0].unflatten(1, (4, 48)), y[:, :1, :48].expand(-1, 4, -1, -1, -1))


@pytest.mark.parametrize("name", ["baseline, scaled patches", "without wavelet, scaled patches"])
def test_scaled_patches_have_unit_deviation_and_go_back(variants: ModuleType, clips: Tensor, name: str) -> None:
    model = variants.build(name, 0, clips)
    y = model.encoder.patch(clips, start=True)
    torch.testing.assert_close(y.mean((0, 1, 3, 4)), torch.zeros(192), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.std((0, 1, 3, 4)), torch.ones(192))
    torch.testing.assert_close(model.decoder.unpatch(y, start=True), clips)


def test_whole_convolution_does_what_a_factorised_one_does_and_more(variants: ModuleType) -> None:
    pair, whole, x = FactorisedConv(4, 5), variants.WholeConv(4, 5), torch.randn(2, 6, 4, 7, 3)
    with torch.no_grad():
        whole.weight.copy_(torch.einsum("dek,ecij->dckij", pair.temporal.weight, pair.spatial.weight))
        whole.bias.copy_(pair.temporal.bias + pair.temporal.weight.sum(2) @ pair.spatial.bias)
    torch.testing.assert_close(whole(x, before=torch.tanh), pair(x, before=torch.tanh), atol=1e-5, rtol=1e-5)
    assert whole.weight.numel() > pair.spatial.weight.numel() + pair.temporal.weight.numel()


@pytest.mark.parametrize("name", NAMES)
def test_only_the_variant_without_factors_has_whole_kernels_and_it_has_no_pairs(
    variants: ModuleType, clips: Tensor, name: str
) -> None:
    model = variants.build(name, 0, clips)
    whole = [value for value in model.parameters() if value.shape[2:] == (3, 3, 3)]
    pairs = [layer for layer in model.modules() if isinstance(layer, FactorisedConv | TemporalConv)]
    assert (len(whole), len(pairs)) == ((20, 0) if name == "not factorised" else (0, 40))


def test_variants_have_one_number_of_weights_and_one_shape_of_latents(variants: ModuleType, clips: Tensor) -> None:
    assert list(variants.VARIANTS) == NAMES
    models = [variants.build(name, 0, clips) for name in NAMES]
    counts = [sum(value.numel() for value in model.parameters()) for model in models]
    assert counts == [variants.weights(name, variants.width(name)) for name in NAMES]
    assert max(abs(count / counts[0] - 1) for count in counts) <= 0.01
    with torch.no_grad():
        assert {tuple(model.encode(clips).shape) for model in models} == {(2, 16, 3, 4, 6)}


def test_a_quick_run_prints_a_row_for_every_variant(
    script: ModuleType, small_pool: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = np.load(small_pool / "development.npy")[0]
    windows = [holdout.HeldOut(name=f"{clip}@{start}", frames=frames) for clip in holdout.STARTS for start in (1, 2)]
    monkeypatch.setattr(holdout, "held_out", lambda folder: windows)
    script.main(["--data", str(small_pool), "--footage", "footage", "--quick"])
    *_, about, _, head, line = (said := capsys.readouterr().out.splitlines())[: -len(NAMES)]
    assert "; 2 steps of 2 clips of 9x64x64, 1 seeds; " in about
    cells = [row.removeprefix("| ").removesuffix(" |").split(" | ") for row in (head, line, *said[-len(NAMES) :])]
    assert {len(row) for row in cells} == {9}
    assert [row[0] for row in cells] == ["variant", "---", *NAMES]
    for row in cells[2:]:
        assert 0.1 < float(row[4]) < 10
        assert all(0 < float(value) < 60 for value in row[6:])
    assert {row[4] for row in cells[2:3]} == {"1.00"}


def test_without_a_pool_one_line_says_so(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        script.main(["--data", str(tmp_path / "none"), "--footage", str(tmp_path)])
    assert f"{tmp_path / 'none'}: no such file or folder" in capsys.readouterr().err.splitlines()[-1]


def test_a_cell_gives_the_mean_and_half_the_range(script: ModuleType) -> None:
    assert script.spread([27.0, 27.5], 2) == "27.25 ± 0.25"
    assert script.spread([27.0], 2) == "27.00"


def test_a_run_of_another_configuration_is_one_line(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Begun:
        def __init__(self, *given: object) -> None:
            pass

        def step_seconds(self) -> dict[str, list[float]]:
            return {}

        def results(self, name: str) -> list[object]:
            raise InputError(f"{name} was begun with clip 0.5, and now it is 1.0")

    monkeypatch.setattr(script, "Ablation", Begun)
    with pytest.raises(SystemExit, match="2"):
        script.main(["--data", "pool", "--footage", "footage", "--out", str(tmp_path)])
    assert capsys.readouterr().err.splitlines()[-1].endswith("baseline was begun with clip 0.5, and now it is 1.0")


def test_a_number_of_threads_below_one_is_one_line(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        script.main(["--data", "pool", "--footage", "footage", "--threads", "0"])
    assert capsys.readouterr().err.splitlines()[-1].endswith("--threads is 0: give a number from 1 up")
