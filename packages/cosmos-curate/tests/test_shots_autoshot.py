"""AutoShot: the layout of the authors' checkpoint, and an export of it."""

import numpy as np
import pytest

from cosmos_curate import InputError
from cosmos_curate.shots import autoshot
from cosmos_curate.shots.stage import ShotConfig


def published(network):
    """Return a network's state dict under the authors' names, as their checkpoint holds it."""
    layers = ["0_3", "1_8", "2_8", "3_8", "4_13", "5_12"]
    out = {}
    for name, value in network.state_dict().items():
        part, *rest = name.split(".")
        if part != "blocks":
            old = {
                "frames.projection": "frame_sim_layer.projection.linear",
                "frames.out": "frame_sim_layer.fc.linear",
                "colors.out": "color_hist_layer.fc.linear",
                "hidden": "fc1_0.linear",
                "cut": "cls_layer1.linear",
            }[name.rpartition(".")[0]]
            out[f"{old}.{rest[-1]}"] = value
            continue
        index, kind, *rest = rest
        layer, shared = f"Layer_{layers[int(index)]}", index in "123"
        if kind == "norm":
            out[f"{layer}.batch_norm.{rest[0]}"] = value
        elif kind == "spatial" and shared:
            out[f"{layer}.share.weight"] = value
        else:
            number = 0 if kind == "spatial" or shared else 1
            out[f"{layer}.conv_blocks.{rest[0]}.layers.{number}.weight"] = value
    return out


@pytest.fixture(scope="module")
def network():
    """Return the network with weights drawn at random."""
    import torch

    from cosmos_curate.shots.autoshot_network import AutoShot

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoShot().eval()


def test_checkpoint_has_the_published_shapes(network):
    held = published(network)
    shapes = {name: tuple(value.shape) for name, value in held.items()}
    assert shapes["Layer_0_3.conv_blocks.3.layers.0.weight"] == (16, 3, 1, 3, 3)
    assert shapes["Layer_1_8.share.weight"] == (64, 64, 1, 3, 3)
    assert [shapes[f"Layer_3_8.conv_blocks.{i}.layers.0.weight"][0] for i in range(5)] == [25, 25, 25, 25, 28]
    assert shapes["Layer_4_13.conv_blocks.4.layers.1.weight"] == (52, 192, 3, 1, 1)
    assert shapes["Layer_5_12.conv_blocks.0.layers.0.weight"] == (128, 256, 1, 3, 3)
    assert shapes["frame_sim_layer.projection.linear.weight"] == (128, 448)
    assert shapes["fc1_0.linear.weight"] == (1024, 4864)


def test_authors_names_lead_to_the_same_network(network):
    import torch

    from cosmos_curate.shots.autoshot_network import AutoShot, renamed

    extra = {"fc1.linear.weight": torch.zeros(1024, 5888), "cls_layer2.linear.bias": torch.zeros(1)}
    other = AutoShot().eval()
    other.load_state_dict(renamed({"net": published(network) | extra}), strict=True)
    for (name, one), two in zip(network.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(one, two), name


def test_histograms_count_every_pixel_in_its_bin():
    import torch

    from cosmos_curate.shots.autoshot_network import histograms

    x = np.random.default_rng(0).integers(0, 256, (1, 3, 5, 7, 3), dtype=np.uint8)
    bins = (x.astype(int) // 32 @ [64, 8, 1])[0].reshape(3, -1)
    wanted = np.stack([np.bincount(row, minlength=512) for row in bins])
    assert np.array_equal(histograms(torch.from_numpy(x))[0].numpy(), wanted)


@pytest.mark.parametrize("fault", ["missing", "extra", "shape", "other", "text"])
def test_another_checkpoint_is_refused(network, fault, tmp_path, capsys):
    import torch

    path = tmp_path / "weights.pth"
    held = published(network)
    if fault == "missing":
        del held["Layer_2_8.share.weight"]
    elif fault == "extra":
        held["Layer_6_0.proj_q.0.weight"] = torch.zeros(1)
    elif fault == "shape":
        held["cls_layer1.linear.weight"] = torch.zeros(2, 1024)
    if fault == "text":
        path.write_text("no weights")
    else:
        torch.save(held if fault == "other" else {"net": held}, path)
    with pytest.raises(SystemExit):
        autoshot._main(str(path), str(tmp_path / "out.onnx"))
    assert "does not hold the weights of AutoShot" in capsys.readouterr().err


def test_without_weights_the_way_out_is_said(tmp_path):
    with pytest.raises(InputError, match="give the path"):
        ShotConfig(detector="autoshot")
    with pytest.raises(InputError, match="no such file"):
        ShotConfig(detector="autoshot", weights=str(tmp_path / "none.pth"))
    with pytest.raises(InputError, match="no weights of AutoShot"):
        autoshot.open_network(tmp_path / "none.pth")


@pytest.mark.slow
def test_exported_network_equals_the_torch_one(network, tmp_path, monkeypatch):
    import torch

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    torch.save({"net": published(network)}, tmp_path / "weights.pth")
    x = np.random.default_rng(1).integers(0, 256, (100, 27, 48, 3), dtype=np.uint8)
    with torch.no_grad():
        wanted = network(torch.from_numpy(x)[None]).numpy()
    assert np.abs(autoshot.open_network(tmp_path / "weights.pth")(x) - wanted).max() < 1e-5
