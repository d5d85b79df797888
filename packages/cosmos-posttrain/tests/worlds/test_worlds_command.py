"""The command: what it writes, that shards are read back, that a stopped run goes on, and what it refuses."""

import io
import json
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from cosmos_posttrain import worlds
from cosmos_posttrain.cli import main
from cosmos_posttrain.data import Description, open_source
from cosmos_posttrain.worlds import making, offscreen
from cosmos_tokenizer import InputError
from cosmos_tokenizer.video import read_video

SMALL = ("--frames", "3", "--size", "32", "--fps", "8")


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict:
    assert main(["worlds", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def loose(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clips, of the first three scenes."""
    out = tmp_path_factory.mktemp("loose") / "out"
    assert main(["worlds", "--count", "3", *SMALL, "--out", str(out)]) == 0
    return out


def test_the_eight_scenes_come_in_turn_and_each_has_its_number() -> None:
    config = worlds.WorldsConfig(count=18)
    assert config.clips()[:9] == [*((name, 1) for name in worlds.SCENES), ("free-fall", 2)]
    assert config.keys("seesaw", 2) == ["seesaw-0002"]
    some = worlds.WorldsConfig(scenes=("U slope", "stable_stack", "u-slope"), count=3, cameras=3)
    assert some.clips() == [("u-slope", 1), ("stable-stack", 1), ("u-slope", 2)]
    assert some.keys("u-slope", 12) == ["u-slope-0012", "u-slope-0012-camera1", "u-slope-0012-camera2"]


def test_a_clip_is_a_video_a_record_a_caption_and_masks(loose: Path) -> None:
    names = ("free-fall", "tilted-plane", "u-slope")
    suffixes = (".json", ".masks.npz", ".mp4", ".txt")
    assert sorted(contents(loose)) == [f"{name}-0001{suffix}" for name in names for suffix in suffixes]
    for name in names:
        record = json.loads((loose / f"{name}-0001.json").read_text())
        video, masks = read_video(loose / f"{name}-0001.mp4"), worlds.read_masks(loose / f"{name}-0001.masks.npz")
        assert video.frames.shape == (3, 32, 32, 3)
        assert video.rate == 8
        assert {key: record[key] for key in ("scene", "num_frames", "height", "width", "framerate")} == {
            "scene": name,
            "num_frames": 3,
            "height": 32,
            "width": 32,
            "framerate": 8.0,
        }
        assert (loose / f"{name}-0001.txt").read_text() == record["caption"] + "\n"
        take = worlds.draw(name, seed=0, number=1)
        assert record["caption"] == take.scene.caption
        assert [thing["name"] for thing in record["objects"]] == [thing.name for thing in take.scene.things]
        assert set(np.unique(masks)) <= set(range(len(record["objects"]) + 1))
        states = worlds.simulate(take.scene, frames=3, fps=8)
        for quantity in ("position", "orientation", "velocity", "angular_velocity", "energy"):
            np.testing.assert_allclose(record["states"][quantity], getattr(states, quantity), atol=1e-6)
        (camera,) = record["cameras"]
        np.testing.assert_array_equal(camera["world_to_camera"], take.cameras[0].world_to_camera())
        np.testing.assert_array_equal(camera["intrinsics"], take.cameras[0].intrinsics(32))


def test_a_run_goes_on_where_it_was_and_makes_the_same_bytes(
    loose: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    film, calls = worlds.Studio.film, []

    def stopped(*arguments, **options):  # noqa: ANN002, ANN003, ANN202
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return film(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(worlds.Studio, "film", stopped)
        assert main(["worlds", "--count", "3", *SMALL, "--out", str(tmp_path / "o")]) == 130
    whole = contents(loose)
    assert contents(tmp_path / "o") == {name: data for name, data in whole.items() if name.startswith("free-fall")}
    assert run(capsys, "--count", 3, *SMALL, "--out", tmp_path / "o")["made"] == 2
    assert contents(tmp_path / "o") == whole
    (tmp_path / "o" / "u-slope-0001.json").write_text("{")
    assert main(["worlds", "u-slope", "--count", "1", *SMALL, "--out", str(tmp_path / "o")]) == 2
    assert "u-slope-0001.json: is of other seed" in capsys.readouterr().err


def test_shards_are_read_back_as_training_data(
    loose: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(making, "SHARD", 2)
    out = tmp_path / "shards"
    assert run(capsys, "--count", 1, *SMALL, "--out", out, "--shards")["made"] == 1
    assert run(capsys, "--count", 3, *SMALL, "--out", out, "--shards")["made"] == 3  # the first shard anew, longer
    assert sorted(contents(out)) == ["000000.tar", "000001.tar"]
    assert not list(out.glob(".*"))
    source = open_source(out)
    assert len(source) == 3
    captions = [(loose / f"{name}-0001.txt").read_text().strip() for name in ("free-fall", "tilted-plane", "u-slope")]
    assert [source.describe(index) for index in range(3)] == [
        Description(key=f"{shard}/{name}-0001.mp4", frames=3, height=32, width=32, rate=8.0, text=text)
        for shard, name, text in zip(
            ("000000.tar", "000000.tar", "000001.tar"), ("free-fall", "tilted-plane", "u-slope"), captions, strict=True
        )
    ]
    np.testing.assert_array_equal(source.read(2, 0, 3, 1), read_video(loose / "u-slope-0001.mp4").frames)
    packed = {}
    for path in sorted(out.glob("*.tar")):
        with tarfile.open(path) as tar:
            packed |= {member.name: tar.extractfile(member).read() for member in tar.getmembers()}
    assert packed == contents(loose)
    masks = worlds.read_masks(io.BytesIO(packed["u-slope-0001.masks.npz"]))
    np.testing.assert_array_equal(masks, worlds.read_masks(loose / "u-slope-0001.masks.npz"))
    before = contents(out)
    assert run(capsys, "--count", 3, *SMALL, "--out", out, "--shards")["made"] == 0
    assert main(["worlds", "--count", "3", *SMALL, "--out", str(out), "--shards", "--seed", "1"]) == 2
    assert "000000.tar: has other clips" in capsys.readouterr().err
    assert contents(out) == before


def test_a_folder_of_loose_clips_is_training_data_too(loose: Path) -> None:
    source = open_source(loose)
    assert [source.describe(k).text for k in range(len(source))] == [
        path.read_text().strip() for path in sorted(loose.glob("*.txt"))
    ]


def test_every_camera_has_a_clip_and_the_first_is_that_of_one_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, "gyroscope", "--count", 1, *SMALL, "--out", tmp_path / "one")
    run(capsys, "gyroscope", "--count", 1, *SMALL, "--out", tmp_path / "two", "--cameras", 2)
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    assert len(two) == 2 * len(one)
    for suffix in (".mp4", ".masks.npz", ".txt"):
        assert one[f"gyroscope-0001{suffix}"] == two[f"gyroscope-0001{suffix}"]
    assert two["gyroscope-0001.mp4"] != two["gyroscope-0001-camera1.mp4"]
    first, second = (json.loads(two[f"gyroscope-0001{suffix}.json"]) for suffix in ("", "-camera1"))
    assert (first.pop("camera"), second.pop("camera")) == (0, 1)
    assert first == second
    assert len(first["cameras"]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["billiards"], "no scene 'billiards': there are free-fall, tilted-plane, u-slope"),
        (["--size", "100"], "size is 100, which is no multiple of 16 from 16 to 1024; 96 would do"),
        (["--size", "8"], "16 would do"),
        (["--size", "4096"], "1024 would do"),
        (["--count", "0"], "count is 0; give 1 or more"),
        (["--frames", "0"], "frames is 0; give 1 or more"),
        (["--cameras", "0"], "cameras is 0; give 1 to 64"),
        (["--fps", "0"], "fps is 0.0; give 1 to 500"),
        (["--fps", "nan"], "fps is nan"),
        (["--fps", "fast"], "fast"),
        (["--seed", "-1"], "-1"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["worlds", *arguments, "--out", str(tmp_path / "o")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_clips_of_other_settings_are_not_mixed_nor_a_file_taken_for_a_folder(
    loose: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(loose)
    for other in (["--seed", "1"], ["--size", "48"], ["--frames", "4"], ["--fps", "9"], ["--cameras", "1"]):
        code = main(["worlds", "--count", "1", *SMALL, *other, "--out", str(loose)])
        assert code == (0 if other == ["--cameras", "1"] else 2)
    assert "name another folder" in capsys.readouterr().err
    assert main(["worlds", *SMALL, "--out", str(loose / "u-slope-0001.txt")]) == 2
    assert "is a file; name a folder" in capsys.readouterr().err
    assert contents(loose) == before


def test_a_machine_without_mujoco_or_gl_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_library() -> None:
        raise AttributeError("'NoneType' object has no attribute 'glGetError'")

    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "mujoco", None)
        assert main(["worlds", "--out", str(tmp_path / "o")]) == 2
    assert "pip install 'cosmos-posttrain[worlds]'" in capsys.readouterr().err
    monkeypatch.setattr(offscreen, "load_mujoco", no_library)
    assert main(["worlds", "--out", str(tmp_path / "o")]) == 2
    error = capsys.readouterr().err
    assert "libosmesa6" in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_masks_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.masks.npz").write_bytes(b"PK\x03\x04 and no more")
    np.savez(tmp_path / "b.masks.npz", masks=np.zeros((2, 3), np.uint8))
    np.savez(tmp_path / "c.masks.npz", other=np.zeros((2, 3, 3), np.uint8))
    for name in "abc":
        with pytest.raises(InputError, match=f"{name}.masks.npz"):
            worlds.read_masks(tmp_path / f"{name}.masks.npz")
