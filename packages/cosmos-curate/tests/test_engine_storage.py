"""Files are whole or not there, names stay inside the folder, records survive, damage is noticed."""

import errno
import json
import os
import pickle
import random

import numpy as np
import pytest

from cosmos_curate.engine import storage
from cosmos_curate.engine.ledger import Ledger, Record, dumps, loads
from cosmos_curate.engine.lock import locked
from cosmos_curate.engine.storage import OutputError, Store
from cosmos_curate.engine.videos import find_videos
from cosmos_curate.engine.workshop import scratch, workshop
from cosmos_curate.errors import InputError
from cosmos_curate.stage import same


@pytest.fixture(params=["local", "memory"])
def store(request, tmp_path):
    store = Store(tmp_path / "a b é" if request.param == "local" else f"memory://{tmp_path}/out")
    yield store
    for name in store.list():
        store.remove(name)


def test_files_are_written_read_listed_and_removed(store, tmp_path):
    store.write_whole("clips/ab/é 1.mp4", b"one")
    store.write_whole("clips/ab/é 1.mp4", b"two")
    (tmp_path / "made").write_bytes(b"three")
    store.put_whole("clips/b.mp4", tmp_path / "made")
    assert not (tmp_path / "made").exists()
    again = pickle.loads(pickle.dumps(store))
    assert again.list() == ["clips/ab/é 1.mp4", "clips/b.mp4"]
    assert again.list("clips/ab") == ["clips/ab/é 1.mp4"]
    assert again.list("nothing") == []
    assert again.read_bytes("clips/ab/é 1.mp4") == b"two"
    assert (again.size("clips/b.mp4"), again.exists("clips/b.mp4"), again.exists("clips")) == (5, True, False)
    with again.local("clips/b.mp4", tmp_path / "work") as path, open(path, "rb") as file:
        assert file.read() == b"three"
        assert path.endswith(".mp4")
    assert not (tmp_path / "work").exists() or not os.listdir(tmp_path / "work")
    again.remove("clips/b.mp4")
    again.remove("clips/b.mp4")
    assert not again.exists("clips/b.mp4")
    with pytest.raises(FileNotFoundError):
        again.read_bytes("clips/b.mp4")
    with pytest.raises(FileNotFoundError), again.local("clips/b.mp4", tmp_path / "work"):
        pass


@pytest.mark.parametrize("name", ["", "..", "../x", "a/../b", "/etc/passwd", "a//b", "a/", "./a", "a\0b"])
def test_names_that_leave_the_folder_are_refused(store, name):
    with pytest.raises(InputError, match="is no name of a file inside"):
        store.write_whole(name, b"")


@pytest.mark.parametrize(
    ("url", "message"), [("", "no name"), ("nope://x/y", "no address that fsspec knows"), ("a\0b", "NUL")]
)
def test_bad_addresses_are_named(url, message):
    with pytest.raises(InputError, match=message):
        Store(url)


def test_a_missing_package_is_named(monkeypatch):
    def missing(url):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(InputError, match=r"pip install cosmos-curate\[s3\]"):
        Store("s3://bucket/folder")


@pytest.mark.parametrize("call", ["replace", "fsync", "open"])
def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch, call):
    store = Store(tmp_path / "out")
    store.write_whole("a.json", b"before")

    def full(*_args, **_more):
        raise OSError(errno.ENOSPC, "No space left on device")

    if call == "open":
        monkeypatch.setattr(storage, "open", full, raising=False)
    else:
        monkeypatch.setattr(os, call, full)
    with pytest.raises(OutputError, match="cannot write a.json to .*: No space left on device; mend that"):
        store.write_whole("a.json", b"after")
    monkeypatch.undo()
    assert store.read_bytes("a.json") == b"before"
    assert os.listdir(tmp_path / "out") == ["a.json"]


def test_what_a_killed_run_left_is_swept(tmp_path):
    store = Store(tmp_path)
    store.write_whole("clips/a.mp4", b"a")
    (tmp_path / "clips" / f".0123{storage.PARTIAL}").write_bytes(b"half")
    assert store.list() == ["clips/a.mp4"]
    store.sweep()
    assert os.listdir(tmp_path / "clips") == ["a.mp4"]


def test_files_can_be_read_by_others_as_the_user_wishes(tmp_path):
    Store(tmp_path).write_whole("a", b"")
    (tmp_path / "plain").write_bytes(b"")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_columns_survive_to_the_bit():
    rng = np.random.default_rng(0)
    columns = {
        "floats": [0.1, 1e-320, -0.0, float("nan"), float("inf"), 2**63 + 0.5, *rng.normal(size=50).tolist()],
        "none": None,
        "text": 'é\ud800\n"\0',
        "windows": [{"first": 1, "caption": "x"}],
        "scalar": np.float32(0.1),
        "tuple": (1, 2),
        "array": rng.normal(size=(3, 0, 2)).astype(">f4"),
        "embedding": rng.normal(size=(7, 5)).astype(np.float16)[::2, ::-1],
        "flag": np.zeros((), bool),
    }
    back = loads(dumps(columns))
    assert json.dumps(back["floats"]) == json.dumps(columns["floats"])
    assert (back["tuple"], back["scalar"], back["text"]) == ([1, 2], float(np.float32(0.1)), columns["text"])
    for name in ("array", "embedding", "flag"):
        assert same(back[name], columns[name])
        assert back[name].shape == columns[name].shape
    assert back["embedding"].flags.writeable
    assert dumps(back) == dumps(loads(dumps(back)))


@pytest.mark.parametrize("value", [object(), {1, 2}, np.array([object()]), np.array(["x"]), b"x"])
def test_what_is_no_column_is_refused(value):
    with pytest.raises(TypeError, match="a column cannot hold"):
        dumps({"x": value})


def test_records_come_back_and_others_stay(store):
    ledger = Ledger(store)
    assert ledger.read("ab12") == {}
    ledger.write("ab12", {"k1": Record(columns={"a": 1.5})})
    ledger.write("ab12", {"k2": Record(columns={}, quarantine="bad", attempts=3)})
    expected = {"k1": Record(columns={"a": 1.5}), "k2": Record(columns={}, quarantine="bad", attempts=3)}
    assert Ledger(store).read("ab12") == expected
    assert store.list() == ["ledger/ab/ab12.json"]


def test_a_damaged_record_is_as_good_as_none(tmp_path):
    ledger = Ledger(Store(tmp_path))
    ledger.write("ab12", {"k1": Record(columns={"a": 12345, "b": "text"})})
    path = tmp_path / "ledger/ab/ab12.json"
    whole, chance = path.read_bytes(), random.Random(0)
    for cut in [0, 1, 64, 65, len(whole) - 1]:
        path.write_bytes(whole[:cut])
        assert ledger.read("ab12") == {}
    for _ in range(50):
        place = chance.randrange(len(whole))
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << chance.randrange(8)]) + whole[place + 1 :])
        assert ledger.read("ab12") == {}
    ledger.write("ab12", {"k1": Record(columns={"a": 12345, "b": "text"})})
    assert path.read_bytes() == whole


@pytest.mark.parametrize("item", ["", "a", "../x", "a/b", "é12", "x" * 200])
def test_ids_that_are_no_file_names_are_refused(tmp_path, item):
    with pytest.raises(InputError, match="is no item's id"):
        Ledger(Store(tmp_path)).write(item, {})


def test_videos_are_found_at_any_depth(tmp_path):
    for name in ["b.MP4", "a b/é.mov", "a b/c/d.webm", "note.txt", ".hidden.mp4", ".git/x.mp4", "x.mp4.part"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = find_videos(Store(tmp_path))
    assert found.videos == ["a b/c/d.webm", "a b/é.mov", "b.MP4"]
    assert found.unreadable == []
    assert found.others == [("note.txt", "no video by its name"), ("x.mp4.part", "no video by its name")]
    with pytest.raises(InputError, match="is no folder"):
        find_videos(Store(tmp_path / "gone"))


def test_links_end_and_odd_files_are_told_apart(tmp_path):
    top, aside = tmp_path / "in", tmp_path / "aside"
    (top / "a").mkdir(parents=True)
    aside.mkdir()
    (aside / "far.mp4").write_bytes(b"x")
    (top / "a/near.mp4").write_bytes(b"x")
    (top / "a/loop").symlink_to(top)
    (top / "up").symlink_to(tmp_path)
    (top / "0 inside").symlink_to(top / "a")
    (top / "far").symlink_to(aside)
    (top / "far again").symlink_to(aside)
    (aside / "back").symlink_to(aside)
    (top / "link.mp4").symlink_to(aside / "far.mp4")
    (top / "broken.mp4").symlink_to(tmp_path / "nothing")
    (top / "self.mp4").symlink_to(top / "self.mp4")
    os.mkfifo(top / "pipe.mp4")
    with open(os.fsencode(top) + b"/\xff.mp4", "wb"):
        pass
    found = find_videos(Store(top))
    assert found.videos == ["a/near.mp4", "broken.mp4", "far/far.mp4", "link.mp4", "self.mp4"]
    assert found.others == [("pipe.mp4", "no regular file")]
    assert found.unreadable == [("?.mp4", "its name is not UTF-8")]
    assert found.notices == [
        "?.mp4 is passed by: its name is not UTF-8",
        "1 file is passed by, being no video: pipe.mp4",
    ]
    assert found.skipped == [
        {"name": "?.mp4", "reason": "its name is not UTF-8"},
        {"name": "pipe.mp4", "reason": "no regular file"},
    ]


def test_folders_without_permission_are_reported(tmp_path, monkeypatch):
    (tmp_path / "shut").mkdir()
    (tmp_path / "a.mp4").write_bytes(b"x")
    scandir = os.scandir

    def deny(path):
        if str(path).endswith("shut"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", deny)
    found = find_videos(Store(tmp_path))
    assert found.videos == ["a.mp4"]
    assert found.unreadable == [("shut", "folder: Permission denied")]


def test_videos_of_a_remote_store_are_found(tmp_path):
    store = Store(f"memory://{tmp_path}/videos")
    for name in ["b/c.mp4", "a.mov", "x.txt", ".b/d.mp4"]:
        store.write_whole(name, b"x")
    found = find_videos(store)
    assert (found.videos, found.others) == (["a.mov", "b/c.mp4"], [("x.txt", "no video by its name")])


def test_one_output_has_one_run(store):
    with locked(store), pytest.raises(InputError, match=f"in use by process {os.getpid()} on"), locked(store):
        pass
    with locked(store):
        assert store.list() == ["run.lock"]
    assert store.list() == []
    with pytest.raises(ZeroDivisionError), locked(store):
        raise ZeroDivisionError
    with locked(store):
        pass


def test_a_lock_left_on_a_store_says_how_to_be_rid_of_it(tmp_path):
    store = Store(f"memory://{tmp_path}/out")
    store.write_whole("run.lock", b"nonsense")
    with pytest.raises(InputError, match=r"if that run is dead, remove memory://.*/out/run\.lock"), locked(store):
        pass


def test_a_lock_of_a_dead_process_is_free(tmp_path):
    (tmp_path / "run.lock").write_text("process 1 on elsewhere")
    with locked(Store(tmp_path)):
        assert (tmp_path / "run.lock").read_text().startswith(f"process {os.getpid()}")


def test_scratch_folders_go_and_dead_ones_too(tmp_path):
    dead = tmp_path / "curate-dead"
    dead.mkdir()
    (dead / ".held").write_bytes(b"")
    (tmp_path / "curate-not-ours").mkdir()
    with scratch(tmp_path) as one, scratch(tmp_path) as two:
        (one / "file").write_bytes(b"x")
        assert one.exists()
        assert one != two
        assert not dead.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["curate-not-ours"]
    with scratch(tmp_path / "work" / "here") as folder:
        assert folder.parent == tmp_path / "work" / "here"
    assert not (tmp_path / "work" / "here").exists()


def test_a_run_has_a_folder_for_files_on_their_way(store, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    store.write_whole("clips/a", b"a")
    if store.is_local:
        (tmp_path / "a b é/clips/.12.partial").write_bytes(b"half")
    with workshop(store) as work:
        top = f"{store.root}/work" if store.is_local else str(tmp_path / "temporary")
        assert os.path.dirname(work) == top
        assert os.path.isdir(work)
    assert not os.path.exists(work)
    assert store.list() == ["clips/a"]
    if store.is_local:
        assert os.listdir(store.root) == ["clips"]
        assert os.listdir(f"{store.root}/clips") == ["a"]


def test_an_output_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    store = Store(tmp_path / "file" / "out")
    with pytest.raises(OutputError, match="cannot write work to .*: Not a directory"), workshop(store):
        pass
    with pytest.raises(OutputError, match=r"cannot write run.lock to .*: Not a directory"), locked(store):
        pass
