"""TorchScript read as an archive: what ``torch.jit.load`` gives, and none of the code in the file run."""

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from cosmos_tokenizer import InputError
from cosmos_tokenizer.torchscript import read_torchscript

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class _Net(nn.Module):
    """Parameters, buffers, a tied and a strided tensor, and attributes of every kind that are no tensors."""

    __module__ = "net"  # TorchScript takes no module name with a hyphen, as this file's folder has one.

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Linear(5, 7))
        self.tied = self.body[0].weight
        self.narrow = nn.Parameter(torch.rand(3, 5, dtype=torch.bfloat16))
        self.register_buffer("empty", torch.zeros(0, 2))
        self.register_buffer("strided", torch.rand(6, 4)[1::2].T)
        self.register_buffer("hidden", torch.arange(3, dtype=torch.int32), persistent=False)
        self.several = [torch.rand(2), torch.rand(3)]
        self.counts, self.shares, self.words = [1, 2], [1.5, 2.5], {"a": 1}
        self.pair, self.device, self.none = (1, 2.0), torch.device("cpu"), None

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x) + self.tied.sum() + self.narrow.sum() + self.strided.sum() + self.hidden.sum()
        return y + self.several[0].sum() + self.counts[0] + self.shares[1] + self.words["a"] + self.pair[0]


class _Harmful(nn.Module):
    """A module whose restoring writes a file."""

    __module__ = "net"

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.weight = nn.Parameter(torch.rand(2))

    @torch.jit.export
    def __getstate__(self) -> tuple[str, Tensor, bool]:
        return self.path, self.weight, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, Tensor, bool]) -> None:
        self.path = state[0]
        self.weight = state[1]
        self.training = state[2]
        torch.save(self.weight, self.path)


def scripted(net: nn.Module) -> torch.jit.ScriptModule:
    return torch.jit.script(net)


def traced(net: nn.Module) -> torch.jit.ScriptModule:
    return torch.jit.trace(net, torch.rand(1, 3, 6, 7))


@pytest.mark.parametrize("compiled", [scripted, traced])
def test_it_is_the_state_dict(compiled: Callable[[nn.Module], torch.jit.ScriptModule], tmp_path: Path) -> None:
    torch.jit.save(compiled(_Net().eval()), str(tmp_path / "net.jit"))
    expected = torch.jit.load(str(tmp_path / "net.jit")).state_dict()
    found = read_torchscript(tmp_path / "net.jit")
    assert found.keys() == expected.keys() >= {"tied", "hidden", "strided", "empty", "body.1.running_mean"}
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value), name


def test_code_in_the_file_does_not_run(tmp_path: Path) -> None:
    harm = tmp_path / "harm"
    root = nn.Module()
    root.child = _Harmful(str(harm))
    torch.jit.save(torch.jit.script(root), str(tmp_path / "net.jit"))
    assert read_torchscript(tmp_path / "net.jit") == {}
    assert not harm.exists()
    torch.jit.load(str(tmp_path / "net.jit"))
    assert harm.exists()


def archive(path: Path, tree: bytes, **others: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in ({"data.pkl": tree, "constants.pkl": b""} | others).items():
            file.writestr(f"net/{name}", content)
    return path


class _Call:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return print, ("harm",)


def test_a_pickle_that_calls_something_else_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="more than modules and tensors .*print"):
        read_torchscript(archive(tmp_path / "net.jit", pickle.dumps(_Call(), protocol=2)))
    assert capsys.readouterr().out == ""


TENSOR = (
    b"\x80\x02c__torch__\nNet\n)\x81}U\x01wctorch._utils\n_rebuild_tensor_v2\n"
    b"((U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x04tQ%s\x89NtRsb."
)


@pytest.mark.parametrize(
    ("place", "others", "message"),
    [
        (b"K\x00(K\x05t(K\x01t", {"data/0": bytes(16)}, "damaged"),
        (b"K\x03(K\x02t(K\x01t", {"data/0": bytes(16)}, "damaged"),
        (b"K\x00(K\x04t(K\x01t", {}, "damaged"),
        (b"K\x00(K\x04t(K\x01t", {"data/0": bytes(16), "byteorder": b"big"}, "big-endian"),
    ],
)
def test_a_tensor_beyond_its_bytes_is_refused(
    place: bytes, others: dict[str, bytes], message: str, tmp_path: Path
) -> None:
    sound = archive(tmp_path / "sound.jit", TENSOR % b"K\x00(K\x04t(K\x01t", **{"data/0": bytes(16)})
    assert torch.equal(read_torchscript(sound)["w"], torch.zeros(4))
    with pytest.raises(InputError, match=message):
        read_torchscript(archive(tmp_path / "net.jit", TENSOR % place, **others))
