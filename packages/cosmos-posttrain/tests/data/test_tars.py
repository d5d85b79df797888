import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cosmos_posttrain.data.tars import read_members

FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


def contents(path: Path, said: list[str] | None = None) -> dict[str, bytes]:
    said = [] if said is None else said
    data = path.read_bytes()
    return {name: data[at : at + size] for name, at, size in read_members(path, said.append)}


@pytest.fixture
def three() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    return {f"d/{name}.mp4": rng.bytes(size) for name, size in (("a", 1000), ("b", 0), ("c", 1024))}


@pytest.mark.parametrize("form", FORMATS)
def test_members_are_found_where_they_lie(
    form: int, three: dict[str, bytes], tmp_path: Path, write_tar: Callable[..., Path]
) -> None:
    named = three if form == tarfile.USTAR_FORMAT else three | {f"{'é' * 120}.json": b"long"}
    said: list[str] = []
    assert contents(write_tar(tmp_path / "x.tar", named, form), said) == named
    assert said == []


def test_two_tars_joined_are_read_as_one(
    three: dict[str, bytes], tmp_path: Path, write_tar: Callable[..., Path]
) -> None:
    first, second = write_tar(tmp_path / "1.tar", three), write_tar(tmp_path / "2.tar", {"e.txt": b"more"})
    (tmp_path / "x.tar").write_bytes(first.read_bytes() + second.read_bytes())
    said: list[str] = []
    assert contents(tmp_path / "x.tar", said) == three | {"e.txt": b"more"}
    assert said == []


@pytest.mark.parametrize("cut", [1, 511, 512, 900, 1535, 1536, 2047, 2048, 2100, 2560, 3000, 3583])
def test_a_tar_cut_anywhere_gives_the_members_before_the_cut_and_says_so(
    cut: int, three: dict[str, bytes], tmp_path: Path, write_tar: Callable[..., Path]
) -> None:
    path = write_tar(tmp_path / "x.tar", three)
    whole = {name: at + size for name, at, size in read_members(path, print)}
    path.write_bytes(path.read_bytes()[:cut])
    said: list[str] = []
    assert contents(path, said) == {name: three[name] for name, end in whole.items() if end <= cut}
    assert len(said) == 1
    assert "ends early" in said[0]


def test_a_damaged_header_costs_its_member_alone_and_is_said(
    three: dict[str, bytes], tmp_path: Path, write_tar: Callable[..., Path]
) -> None:
    path = write_tar(tmp_path / "x.tar", {"z.txt": b"first", **three})
    data = bytearray(path.read_bytes())
    data[1024 + 5] ^= 0xFF
    path.write_bytes(data)
    said: list[str] = []
    assert contents(path, said) == {"z.txt": b"first"} | {k: v for k, v in three.items() if "a" not in k}
    assert said == [f"{path}: is damaged at bytes 1024 to 2560; the 3 whole members are used"]


def test_what_is_no_tar_or_compressed_has_no_members(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "noise.tar").write_bytes(np.random.default_rng(1).bytes(5000))
    (tmp_path / "gzip.tar").write_bytes(b"\x1f\x8b" + bytes(2000))
    (tmp_path / "empty.tar").write_bytes(b"")
    for name in ("noise", "gzip", "empty"):
        assert contents(tmp_path / f"{name}.tar", said) == {}
    assert "damaged" in said[0]
    assert "unpack it" in said[2]


def index_of(path: Path, shift: int = 0) -> str:
    members = read_members(path, print)
    lines = [f"{name.rpartition('.')[2]} {at + shift} {size} {name}" for name, at, size in members]
    return f"v1.2 {len(lines)}\n" + "\n".join(lines) + "\n"


def test_an_index_beside_the_tar_is_taken_instead_of_its_headers(
    three: dict[str, bytes], tmp_path: Path, write_tar: Callable[..., Path]
) -> None:
    path = write_tar(tmp_path / "x.tar", three)
    index = index_of(path).replace("d/b.mp4", "d/renamed.mp4")
    (tmp_path / "x.idx").write_text(index)
    assert set(contents(path)) == {"d/a.mp4", "d/renamed.mp4", "d/c.mp4"}


@pytest.mark.parametrize("wrong", ["shifted", "half", "words", "binary"])
def test_an_index_that_does_not_fit_is_left_aside(
    wrong: str, three: dict[str, bytes], tmp_path: Path, write_tar: Callable[..., Path]
) -> None:
    path = write_tar(tmp_path / "x.tar", three)
    made = {
        "shifted": index_of(path, 512).encode(),
        "half": index_of(path).encode()[:-9],
        "words": b"v1.2 1\nsome words",
        "binary": bytes(range(256)),
    }
    (tmp_path / "x.idx").write_bytes(made[wrong])
    assert contents(path) == three
