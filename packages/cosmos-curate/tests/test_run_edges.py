"""Runs that something disturbs: full disks, signals, other hands in the output, object stores; each ends well."""

import contextlib
import errno
import hashlib
import importlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from cosmos_curate import pipeline
from cosmos_curate.cli import main
from cosmos_curate.engine import storage
from cosmos_curate.engine.lock import locked
from cosmos_curate.engine.storage import Store
from cosmos_curate.engine.videos import find_videos
from cosmos_curate.stage import Item

OPTIONS = ["--detector", "content", "--set", "cut.guard_s=0.1", "--rule", "length: duration_s >= 1"]
RESUMES = "interrupted; what is done is kept, and the same command goes on from there"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, video, picture) -> Path:
    """Two videos, one of two shots, and one that is broken."""
    root = tmp_path_factory.mktemp("footage")

    def pan(seed: int) -> np.ndarray:
        large = picture(120, 200, seed)
        return np.stack([large[2 * n : 2 * n + 64, 3 * n : 3 * n + 96] for n in range(16)])

    video(root / "one.mp4", np.concatenate([pan(1), pan(2)]), rate=8)
    video(root / "two.mp4", pan(3), rate=8)
    (root / "broken.mp4").write_bytes(b"no video" * 100)
    return root


@pytest.fixture(scope="module")
def done(folder, tmp_path_factory) -> Path:
    """Return the output of a run that nothing disturbed."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    assert main(["run", str(folder), str(out), *OPTIONS]) == 0
    return out


@pytest.fixture(scope="module")
def expected(done) -> dict[str, bytes]:
    return files(done)


@pytest.fixture
def out(done, tmp_path) -> Path:
    """Return a copy of that output."""
    return Path(shutil.copytree(done, tmp_path / "out"))


@pytest.fixture(autouse=True)
def temporary(tmp_path_factory, monkeypatch) -> Iterator[Path]:
    """Give a folder for temporary files, and check that nothing stays in it."""
    path = tmp_path_factory.mktemp("temporary")
    monkeypatch.setenv("TMPDIR", str(path))
    monkeypatch.setattr("tempfile.tempdir", None)
    yield path
    assert list(path.iterdir()) == []


@pytest.fixture
def fails(capsys) -> Callable[..., str]:
    """Return the function that runs a command which ends with this code, and returns the one line that it says."""

    def run(code: int, *command: object) -> str:
        capsys.readouterr()
        assert main([str(part) for part in command]) == code
        [line] = capsys.readouterr().err.splitlines()
        return line

    return run


def files(out: Path) -> dict[str, bytes]:
    """Return what an output says to the world: manifest, embeddings, shards and clips."""
    found = [out / "manifest.parquet", out / "embeddings.parquet"]
    found += sorted((out / "shards").rglob("*")) + sorted((out / "clips").rglob("*"))
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in found if path.is_file()}


def rows(out: Path) -> list[dict]:
    return pq.read_table(out / "manifest.parquet").to_pylist()


def check_whole(out: Path) -> None:
    """Shards are those that index and manifest list, and clips of the manifest are there."""
    index = json.loads((out / "shards" / "index.json").read_text())
    tars = {path.relative_to(out).as_posix() for path in (out / "shards").rglob("*.tar")}
    assert {entry["name"] for entry in index["shards"]} == tars
    assert {row["shard"] for row in rows(out) if row["keep"]} == tars
    for row in rows(out):
        if row["keep"]:
            assert (out / "clips" / row["clip_id"][:2] / f"{row['clip_id']}.mp4").stat().st_size == row["bytes"]
    assert not [path for path in out.rglob("*") if path.name.startswith(".")]
    assert not (out / "work").exists()
    assert not (out / "run.lock").exists()


def test_a_disk_that_fills_ends_the_run_in_one_line_and_the_next_goes_on(
    folder, expected, tmp_path, monkeypatch, fails
):
    out = tmp_path / "out"
    replace = storage._replace
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    for part in (
        "run.lock",
        "work",
        "/config.json",
        "/ledger/",
        "/clips/",
        "shard.tar",
        ".tar",
        ".idx",
        "000000.json",
        "shards/index.json",
        "/embeddings.parquet",
        "/manifest.parquet",
        "/report.json",
    ):
        written = []

        def disk(path: str, write: Callable[[str], None]) -> None:
            if part in path[len(str(out)) :]:  # noqa: B023
                written.append(path)  # noqa: B023
                if len(written) > (2 if part == "/ledger/" else 0):  # noqa: B023
                    write(str(tmp_path / "half"))
                    (tmp_path / "half").unlink()
                    raise full
            replace(path, write)

        def refuse(*args: object, **options: object) -> None:
            raise full

        with monkeypatch.context() as patch:
            patch.setattr(storage, "_replace", disk)
            if part == "run.lock":
                patch.setattr("cosmos_curate.engine.lock.os.ftruncate", refuse)
            if part == "work":
                patch.setattr("cosmos_curate.engine.workshop.tempfile.mkdtemp", refuse)
            if part == "shard.tar":
                patch.setattr("cosmos_curate.shards.write.write_tar", refuse)
            line = fails(1, "run", folder, out, *OPTIONS)
        assert "No space left on device" in line, part
        assert not list(out.rglob("*.partial")), part
        assert not (out / "work").exists(), part
        assert not (out / "run.lock").exists(), part
    assert main(["run", str(folder), str(out), *OPTIONS]) == 0
    assert files(out) == expected
    check_whole(out)


def test_a_disk_that_is_full_for_the_encoder_puts_no_clip_aside(folder, tmp_path, monkeypatch, fails):
    full = (1, b"Error writing trailer: No space left on device\n")
    monkeypatch.setattr("cosmos_curate.media.transcode.run_program", lambda command: full)
    assert "No space left on device" in fails(1, "run", folder, tmp_path / "out", *OPTIONS)
    assert not (tmp_path / "out" / "manifest.parquet").exists()


def test_an_output_that_cannot_be_written_is_one_line(folder, tmp_path, fails):
    file = tmp_path / "file"
    file.write_bytes(b"mine")
    for place in (file, file / "out"):
        assert "cannot write run.lock" in fails(1, "run", folder, place, *OPTIONS)
    if sys.platform == "linux":
        assert "cannot write run.lock" in fails(1, "run", folder, "/proc/curate/out", *OPTIONS)
    assert file.read_bytes() == b"mine"
    for number, name in enumerate(("ledger", "clips", "shards", "config.json/x", "manifest.parquet/x", "work")):
        path = tmp_path / f"blocked {number}" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(b"mine")
        assert "cannot write" in fails(1, "run", folder, tmp_path / f"blocked {number}", *OPTIONS), name
        assert path.read_bytes() == b"mine"


def test_nothing_starts_without_a_video_or_an_output_apart(folder, tmp_path, fails):
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / ".hidden.mp4").write_bytes((folder / "two.mp4").read_bytes())
    (empty / "notes.txt").write_text("nothing")
    out = tmp_path / "out"
    assert "holds no video" in fails(2, "run", empty, out, *OPTIONS)
    assert "no such folder" in fails(2, "run", folder / "two.mp4", out, *OPTIONS)
    (tmp_path / "link").symlink_to(folder)
    for one, other in ((folder, folder), (folder, tmp_path / "link" / "new" / "out"), (tmp_path / "link", folder)):
        assert "name a folder somewhere else" in fails(2, "run", one, other, *OPTIONS)
    assert "name a folder somewhere else" in fails(2, "run", folder / "x" / "..", f"{folder}/./out", *OPTIONS)
    assert not out.exists()
    assert sorted(path.name for path in folder.iterdir()) == ["broken.mp4", "one.mp4", "two.mp4"]


def test_one_run_at_a_time(folder, out, expected, fails):
    with locked(Store(out)):
        assert f"in use by process {os.getpid()}" in fails(2, "run", folder, out, *OPTIONS)
        assert "in use by process" in fails(2, "select", out)
    assert files(out) == expected


def test_a_lock_that_is_left_or_taken_away_is_no_hindrance(folder, out, expected, monkeypatch):
    (out / "run.lock").write_text("process 1 on another machine")
    finish = pipeline.finish

    def unlock(*args: object, **options: object) -> object:
        (out / "run.lock").unlink()
        return finish(*args, **options)  # pyright: ignore

    monkeypatch.setattr(pipeline, "finish", unlock)
    assert main(["run", str(folder), str(out), *OPTIONS]) == 0
    assert files(out) == expected
    check_whole(out)


def test_what_was_removed_or_damaged_is_made_again(folder, out, expected, fails):
    def damage(kind: str, how: Callable[[Path], object], every: int) -> None:
        for path in [path for path in sorted(out.glob(kind)) if path.is_file()][::every]:
            how(path)

    def directory(path: Path) -> None:
        path.unlink()
        path.mkdir()

    for kind, how, every in [
        ("clips/*/*", Path.unlink, 2),
        ("clips/*/*", lambda path: path.write_bytes(b"cut short"), 2),
        ("ledger/*/*", Path.unlink, 2),
        ("ledger/*/*", lambda path: path.write_bytes(path.read_bytes()[:-9]), 3),
        ("ledger/*/*", lambda path: path.write_bytes(b""), 3),
        ("manifest.parquet", Path.unlink, 1),
        ("manifest.parquet", lambda path: path.write_bytes(b"PAR1"), 1),
        ("embeddings.parquet", Path.unlink, 1),
        ("config.json", lambda path: path.write_bytes(b"{"), 1),
        ("report.json", Path.unlink, 1),
        ("shards/**/*.tar", Path.unlink, 1),
        ("shards/**/*.idx", Path.unlink, 1),
        ("shards/**/0*.json", lambda path: path.write_bytes(b"[]"), 1),
        ("shards/index.json", directory, 1),
    ]:
        damage(kind, how, every)
        if how is directory:
            assert "shards/index.json" in fails(1, "run", folder, out, *OPTIONS)
            (out / "shards" / "index.json").rmdir()
        assert main(["run", str(folder), str(out), *OPTIONS]) == 0, kind
        assert files(out) == expected, kind
    check_whole(out)


def test_select_says_what_is_missing(folder, out, expected, fails, tmp_path):
    assert "holds no config.json; name the output folder" in fails(2, "select", tmp_path / "mistyped")
    assert not (tmp_path / "mistyped").exists()
    for path in (out / "clips").rglob("*.mp4"):
        path.unlink()
    line = fails(2, "select", out, "--set", "shards.most_clips=1")
    assert line.endswith("is gone; `cosmos-curate run` makes it again")
    (out / "manifest.parquet").write_bytes(b"PAR1")
    assert "run again to make it anew" in fails(2, "select", out)
    (out / "manifest.parquet").unlink()
    assert "name the output folder of a finished run" in fails(2, "select", out)
    assert main(["run", str(folder), str(out), *OPTIONS]) == 0
    assert files(out) == expected


def test_other_settings_leave_nothing_stale(folder, out, expected):
    clips = {name for name in expected if name.startswith("clips/")}
    for change in (
        ["--set", "shards.most_clips=1"],
        ["--layout", "cosmos", "--set", "shards.most_clips=2"],
        ["--set", 'shards.bins={"aspects": [[3, 2]], "short_sides": [32], "durations_s": []}'],
        ["--set", "cut.guard_s=0.3"],
        ["--rule", "length: duration_s >= 1.9"],
        ["--rule", "length: duration_s >= 100"],
    ):
        assert main(["run", str(folder), str(out), *OPTIONS, *change]) == 0, change
        if "--layout" not in change:
            check_whole(out)
        assert files(out) != expected
    assert main(["run", str(folder), str(out), *OPTIONS]) == 0
    found = files(out)
    assert {name: found[name] for name in found if name in clips or not name.startswith("clips/")} == expected


def test_another_folder_and_other_content_of_the_same_name(folder, out, expected, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(folder / "two.mp4", other / "one.mp4")
    assert main(["run", str(other), str(out), *OPTIONS]) == 0
    [row] = rows(out)
    assert row["source"] == "one.mp4"
    check_whole(out)
    shutil.copy(folder / "one.mp4", other / "one.mp4")
    assert main(["run", str(other), str(out), *OPTIONS]) == 0
    assert {row["source_sha256"] for row in rows(out)} != {row["source_sha256"]}
    assert len(rows(out)) == 2
    check_whole(out)
    assert main(["run", str(folder), str(out), *OPTIONS]) == 0
    assert files(out) == expected


@pytest.mark.parametrize("when", ["before it is read", "after it is read"])
def test_files_that_go_while_the_run_is_on(folder, tmp_path, monkeypatch, when):
    moving = Path(shutil.copytree(folder, tmp_path / "in"))
    where = "find_videos" if when == "before it is read" else "_by_bytes"
    original = getattr(pipeline, where)

    def interfere(*args: object) -> object:
        found = original(*args)
        (moving / "one.mp4").unlink(missing_ok=True)
        return found

    monkeypatch.setattr(pipeline, where, interfere)
    assert main(["run", str(moving), str(tmp_path / "out"), *OPTIONS, "--attempts", "2"]) == 0
    reasons = {row["source"]: row["quarantine"] for row in rows(tmp_path / "out")}
    assert reasons["two.mp4"] is None
    stage = "identify: " if when == "before it is read" else "probe: "
    assert reasons["one.mp4"].startswith(stage)
    assert "No such file or directory" in reasons["one.mp4"]
    check_whole(tmp_path / "out")
    monkeypatch.undo()
    shutil.copy(folder / "one.mp4", moving)
    assert main(["run", str(moving), str(tmp_path / "out"), *OPTIONS, "--retry"]) == 0
    assert [row["quarantine"] for row in rows(tmp_path / "out") if row["source"] != "broken.mp4"] == [None] * 3


@pytest.mark.parametrize("stage", ["identify", "probe", "shots", "transcode"])
def test_a_file_that_changes_is_not_taken_for_what_it_was(folder, expected, tmp_path, monkeypatch, stage):
    moving, out = Path(shutil.copytree(folder, tmp_path / "in")), tmp_path / "out"
    places = {
        "identify": "hashlib.file_digest",
        "probe": "media.probe.open_video",
        "shots": "shots.stage.decode",
        "transcode": "clips.encode.transcode",
    }
    name, _, attribute = places[stage].rpartition(".")
    module = hashlib if stage == "identify" else importlib.import_module(f"cosmos_curate.{name}")
    original = getattr(module, attribute)

    def change(source: object, *args: object, **options: object) -> object:
        if str(getattr(source, "name", source)).endswith("one.mp4"):
            shutil.copy(folder / "two.mp4", moving / "one.mp4")
        return original(source, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(module, attribute, change)
        assert main(["run", str(moving), str(out), *OPTIONS]) == 0
    for row in rows(out):
        if row["source"] == "one.mp4":
            assert row["quarantine"].startswith(f"{stage}: was changed while the run was at work on it")
    assert main(["run", str(moving), str(out), *OPTIONS]) == 0
    assert {row["source_sha256"] for row in rows(out) if row["source"] == "one.mp4"} == {
        hashlib.sha256((folder / "two.mp4").read_bytes()).hexdigest()
    }
    shutil.copy(folder / "one.mp4", moving)
    assert main(["run", str(moving), str(out), *OPTIONS, "--retry"]) == 0
    found = files(out)
    assert {name: found[name] for name in expected} == expected


def test_a_file_that_is_only_touched_is_what_it_was(folder, expected, tmp_path, monkeypatch):
    moving = Path(shutil.copytree(folder, tmp_path / "in"))
    by_bytes = pipeline._by_bytes

    def touch(found: Sequence[Item]) -> object:
        (moving / "one.mp4").touch()
        return by_bytes(found)

    monkeypatch.setattr(pipeline, "_by_bytes", touch)
    assert main(["run", str(moving), str(tmp_path / "out"), *OPTIONS]) == 0
    assert files(tmp_path / "out") == expected


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_run_in_one_line_and_the_next_goes_on(folder, expected, tmp_path, number, code, temporary):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "cosmos_curate.cli", "run", str(folder), str(out), *OPTIONS]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    signal.signal(signal.SIGINT, before)
    while process.poll() is None and not list(out.glob("ledger/*/*.json")):
        time.sleep(0.01)
    os.killpg(process.pid, number)
    said = process.communicate()[1]
    assert (process.returncode, said) == (code, f"cosmos-curate: {RESUMES}\n")
    assert {path.name for path in out.iterdir()} <= {"clips", "config.json", "ledger"}
    assert not list(temporary.iterdir())
    assert main(["run", str(folder), str(out), *OPTIONS]) == 0
    assert files(out) == expected


def test_output_that_cannot_show_a_name_is_no_hindrance(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "fl\N{LATIN SMALL LETTER O WITH STROKE}te.mp4").write_bytes(b"")
    (tmp_path / "in" / "\x1b[2J.txt").write_bytes(b"")
    said = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(said, encoding="ascii"))
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(said, encoding="ascii"))
    assert main(["run", str(tmp_path / "in"), str(tmp_path / "out \N{SNOWMAN}"), *OPTIONS]) == 1
    sys.stderr.flush()
    text = said.getvalue().decode()
    assert "out \\u2603" in text
    assert "\\x1b[2J.txt" in text
    assert "\x1b" not in text


def test_folders_nested_deeper_than_calls_can_be(tmp_path):
    depth = sys.getrecursionlimit() + 100
    with contextlib.chdir(tmp_path):
        for _ in range(depth):
            os.mkdir("d")
            os.chdir("d")
        Path("far down.mp4").write_bytes(b"")
        try:
            found = find_videos(Store(tmp_path))
        finally:  # what removes folders of tests does not get that far down
            os.unlink("far down.mp4")
            for _ in range(depth):
                os.chdir("..")
                os.rmdir("d")
    assert found.videos == [f"{'d/' * depth}far down.mp4"]


def test_links_make_no_output_part_of_the_input(tmp_path):
    for name in ("in/a.mp4", "beside/b.mp4", "beside/out/clips/c.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    for name, target in (("over", "../beside"), ("out", "../beside/out"), ("within", "../beside/out/clips")):
        (tmp_path / "in" / name).symlink_to(target)
    apart = Store(tmp_path / "beside" / "out")
    assert find_videos(Store(tmp_path / "in"), apart).videos == ["a.mp4", "over/b.mp4"]


@pytest.fixture
def memory(folder) -> Iterator[MemoryFileSystem]:
    """Give an object store that has the videos below `memory://in`."""
    store = fsspec.filesystem("memory")
    store.store.clear()  # it is one for all tests of a process
    for path in folder.iterdir():
        store.pipe_file(f"/in/{path.name}", path.read_bytes())
    yield store
    store.store.clear()
    store.pseudo_dirs[:] = [""]


def test_object_stores(memory, folder, done, fails, capsys):
    def written() -> dict[str, bytes]:
        names = [name for name in memory.find("/out") if name not in ("/out/report.json", "/out/config.json")]
        return {name: memory.cat_file(name) for name in names}

    for name in ("/in/../escaped.mp4", "/in/b//c.mp4", "/in/d/../../../e.mp4"):
        memory.pipe_file(name, (folder / "two.mp4").read_bytes())
    assert main(["run", "memory://in", "memory://out", *OPTIONS]) == 0
    said = capsys.readouterr().out
    assert said.count("its name is no path inside the folder") == 3
    table = pq.read_table(io.BytesIO(memory.cat_file("/out/manifest.parquet"))).to_pylist()
    assert [row["clip_id"] for row in table] == [row["clip_id"] for row in rows(done)]
    before = written()
    tar = next(path for path in done.rglob("*.tar"))
    assert before[f"/out/{tar.relative_to(done).as_posix()}"] == tar.read_bytes()
    assert not [name for name in memory.store if not name.startswith(("/in", "/out"))]
    assert main(["run", "memory:///in", "memory:///out/", *OPTIONS]) == 0
    assert written() == before
    for place in ("memory://in", "memory:///in", "memory://in/out", "memory:///in/", "memory://"):
        assert "name a folder somewhere else" in fails(2, "run", "memory://in", place, *OPTIONS)
    memory.pipe_file("/out/run.lock", b"damaged")
    line = fails(2, "run", "memory://in", "memory://out", *OPTIONS)
    assert "if that run is dead, remove memory://out/run.lock" in line
    assert "holds no video" in fails(2, "run", "memory://nothing", "memory://out", *OPTIONS)


@pytest.mark.parametrize(
    ("broken", "code", "says"),
    [
        ("find", 2, "memory://in cannot be listed: no credentials"),
        ("get_file", 1, "nothing in memory://in was usable"),
        ("pipe_file", 1, "cannot write run.lock to memory://out: no credentials"),
        ("isfile", 1, "cannot write run.lock to memory://out: no credentials"),
    ],
)
def test_an_object_store_that_refuses_is_one_line(memory, monkeypatch, fails, broken, code, says):
    def refuse(*args: object, **options: object) -> None:
        raise RuntimeError("no\ncredentials")

    monkeypatch.setattr(MemoryFileSystem, broken, refuse)
    assert says in fails(code, "run", "memory://in", "memory://out", *OPTIONS)


@pytest.mark.parametrize(("address", "extra"), [("s3://bucket/x", "s3"), ("gs://bucket/x", "gs")])
def test_addresses_whose_package_is_missing_name_the_extra(folder, tmp_path, monkeypatch, fails, address, extra):
    monkeypatch.setitem(sys.modules, {"s3": "s3fs", "gs": "gcsfs"}[extra], None)
    for one, other in ((address, tmp_path / "out"), (folder, address)):
        assert f"pip install cosmos-curate[{extra}]" in fails(2, "run", one, other, *OPTIONS)
    assert not (tmp_path / "out").exists()
