import io
import pickle
import tarfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from cosmos_posttrain.data import Description, Source, open_source
from cosmos_tokenizer import InputError
from cosmos_tokenizer.video import Video, read_video, write_video


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def png(height: int, width: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(2).integers(0, 256, (height, width, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def frames_of(data: bytes, folder: Path) -> np.ndarray:
    (folder / "oracle.mp4").write_bytes(data)
    return read_video(folder / "oracle.mp4").frames


def test_a_shard_gives_any_window_of_any_clip(
    clip_bytes: Callable[..., bytes], write_tar: Callable[..., Path], tmp_path: Path
) -> None:
    clips = {f"c{n}": clip_bytes(n, seed=n) for n in (9, 13, 30)}
    records = {"num_frames": 9, "height": 40, "width": 56, "framerate": 12, "windows": [{"qwen_caption": " a dog "}]}
    members = {"c9.mp4": clips["c9"], "c9.json": records, "c13.mp4": clips["c13"], "c13.txt": b"a cat\n"}
    write_tar(tmp_path / "s" / "000.tar", members)
    write_tar(tmp_path / "s" / "sub" / "001.tar", {"c30.MP4": clips["c30"], "c30.json": b"{broken", "x.pickle": b"?"})
    source = pickle.loads(pickle.dumps(open_source(tmp_path / "s")))
    assert isinstance(source, Source)
    assert [source.describe(k) for k in range(len(source))] == [
        Description(key="000.tar/c9.mp4", frames=9, height=40, width=56, rate=12.0, text="a dog"),
        Description(key="000.tar/c13.mp4", frames=13, height=40, width=56, rate=24.0, text="a cat"),
        Description(key="sub/001.tar/c30.MP4", frames=30, height=40, width=56, rate=24.0, text=None),
    ]
    for index, data in enumerate(clips.values()):
        whole = frames_of(data, tmp_path)
        for first, count, step in ((0, 9, 1), (3, 2, 4), (len(whole) - 1, 1, 1)):
            window = source.read(index, first, count, step)
            np.testing.assert_array_equal(window, whole[first : first + (count - 1) * step + 1 : step])


def test_the_cosmos_layout_joins_its_parallel_tars_by_key(
    clip_bytes: Callable[..., bytes], write_tar: Callable[..., Path], tmp_path: Path
) -> None:
    place = "resolution_720/aspect_ratio_16_9/duration_5_10/{}/part_000000/000000.tar"
    write_tar(tmp_path / place.format("video"), {"b.mp4": clip_bytes(5), "a.mp4": clip_bytes(9)})
    record = {"num_frames": 7, "height": 33, "width": 44, "framerate": 30.0, "windows": [{"x_caption": "hi"}]}
    write_tar(tmp_path / place.format("metas"), {"a.json": record, "lonely.json": record})
    write_tar(tmp_path / place.format("t5_xxl"), {"a.pickle": b"never read", "b.mp4": clip_bytes(5)})
    source = open_source(tmp_path)
    assert len(source) == 2
    found = {about.key.rpartition("/")[2]: about for about in map(source.describe, range(len(source)))}
    assert {key: (about.frames, about.height, about.rate, about.text) for key, about in found.items()} == {
        "a.mp4": (7, 33, 30.0, "hi"),
        "b.mp4": (5, 40, 24.0, None),
    }


def test_a_key_with_several_files_is_its_clip_and_token_shards_are_no_clips(
    clip_bytes: Callable[..., bytes], write_tar: Callable[..., Path], tmp_path: Path
) -> None:
    both = write_tar(tmp_path / "both.tar", {"a.npy": npy(np.zeros(3)), "a.jpg": b"thumb", "a.mp4": clip_bytes(5)})
    assert open_source(both).describe(0).frames == 5
    tokens = write_tar(tmp_path / "tokens.tar", {"a.npy": npy(np.zeros((16, 3, 4, 4), np.float16))})
    with pytest.raises(InputError, match=r"holds float16 \(16, 3, 4, 4\), and a clip is"):
        open_source(tokens).describe(0)


def test_a_folder_gives_clips_pictures_and_arrays_with_their_captions(
    clip_bytes: Callable[..., bytes], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    array = rng.integers(0, 256, (6, 20, 24, 3), dtype=np.uint8)
    files = {
        "videos/deep/a.mp4": clip_bytes(9),
        "metas/deep/a.txt": b"in metas\n",
        "b.png": png(31, 17),
        "b.txt": b"beside",
        "c.npy": npy(array),
        "d.npy": npy(array.astype(np.float32) / 127.5 - 1),
        ".hidden/e.mp4": clip_bytes(9),
        "notes.txt": b"none",
    }
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    source = pickle.loads(pickle.dumps(open_source(tmp_path)))
    found = [source.describe(k) for k in range(len(source))]
    assert [(d.key, d.frames, d.height, d.width, d.rate, d.text) for d in found] == [
        ("b.png", 1, 31, 17, None, "beside"),
        ("c.npy", 6, 20, 24, None, None),
        ("d.npy", 6, 20, 24, None, None),
        ("videos/deep/a.mp4", 9, 40, 56, 24.0, "in metas"),
    ]
    np.testing.assert_array_equal(source.read(1, 1, 2, 3), array[1::3])
    np.testing.assert_array_equal(source.read(2, 0, 6, 1), array)
    np.testing.assert_array_equal(source.read(0, 0, 1, 1)[0], np.asarray(Image.open(tmp_path / "b.png")))


@pytest.mark.parametrize("name", ["mpeg4.avi", "gop.mkv", "anim.gif"])
def test_windows_of_other_containers_are_exact_too(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    codec, pixels = {".avi": ("mpeg4", "yuv420p"), ".mkv": ("libx264", "yuv420p"), ".gif": ("gif", "rgb8")}[path.suffix]
    rng = np.random.default_rng(4)
    with av.open(str(path), "w") as container:
        options = {"bf": "2", "g": "6"} if codec != "gif" else {}
        stream = container.add_stream(codec, rate=Fraction(10), options=options)
        stream.width, stream.height, stream.pix_fmt = 48, 32, pixels
        for _ in range(21):
            picture = rng.integers(0, 256, (4, 6, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    whole = read_video(path).frames
    source = open_source(tmp_path)
    assert source.describe(0).frames in range(len(whole), len(whole) + 2)
    for first, count, step in ((0, len(whole), 1), (7, 3, 2), (len(whole) - 1, 1, 1)):
        window = source.read(0, first, count, step)
        np.testing.assert_array_equal(window, whole[first : first + (count - 1) * step + 1 : step])
    with pytest.raises(InputError, match=name):
        source.read(0, 15, 9, 1)


def test_a_pool_gives_its_training_clips_and_sends_only_its_path_to_workers(tmp_path: Path) -> None:
    clips = np.random.default_rng(0).integers(0, 256, (3, 7, 16, 20, 3), dtype=np.uint8)
    np.save(tmp_path / "training.npy", clips)
    np.save(tmp_path / "development.npy", clips)
    sent = pickle.dumps(open_source(tmp_path))
    assert len(sent) < 1000
    source = pickle.loads(sent)
    assert len(source) == 3
    assert source.describe(2) == Description(key="training.npy/2", frames=7, height=16, width=20, rate=None, text=None)
    np.testing.assert_array_equal(source.read(1, 2, 2, 3), clips[1, 2::3])
    assert len(open_source(tmp_path / "development.npy")) == 3


BAD = np.zeros((4, 5, 8, 8, 3), np.float32)
BAD[1, 2, 3, 4, 0] = np.nan
BAD[2] = 255.0


def test_nan_and_out_of_range_pixels_are_told_not_read(tmp_path: Path) -> None:
    np.save(tmp_path / "training.npy", BAD)
    pool = open_source(tmp_path)
    assert (pool.read(0, 0, 5, 1) == 128).all()
    with pytest.raises(InputError, match="training.npy/1: holds NaN"):
        pool.read(1, 0, 5, 1)
    with pytest.raises(InputError, match=r"training.npy/2: holds floats outside \[-1, 1\]"):
        pool.read(2, 0, 5, 1)
    (tmp_path / "folder").mkdir()
    np.save(tmp_path / "folder" / "clip.npy", BAD[1])
    folder = open_source(tmp_path / "folder")
    assert (folder.read(0, 0, 2, 1) == 128).all()
    with pytest.raises(InputError, match="clip.npy: holds NaN"):
        folder.read(0, 1, 2, 1)


def test_damage_in_a_clip_is_told_not_guessed_over(clip_bytes: Callable[..., bytes], tmp_path: Path) -> None:
    data = bytearray(clip_bytes(30, 96, 128, 5))
    middle = len(data) // 2
    data[middle : middle + 400] = np.random.default_rng(0).bytes(400)
    (tmp_path / "a.mp4").write_bytes(data)
    with pytest.raises(InputError, match="a.mp4: "):
        open_source(tmp_path).read(0, 0, 30, 1)


def test_decoding_begins_at_the_key_frame_before_the_window(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(10), options={"g": "10", "sc_threshold": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for _ in range(40):
            picture = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    whole = read_video(tmp_path / "a.mp4").frames
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    at = data.index(b"mdat") + 1500
    data[at : at + 500] = rng.bytes(500)
    (tmp_path / "a.mp4").write_bytes(data)
    source = open_source(tmp_path)
    np.testing.assert_array_equal(source.read(0, 23, 5, 2), whole[23:32:2])
    with pytest.raises(InputError, match="a.mp4: is "):
        source.read(0, 4, 5, 1)


def test_a_clip_with_fewer_frames_than_its_record_says_is_told(
    clip_bytes: Callable[..., bytes], write_tar: Callable[..., Path], tmp_path: Path
) -> None:
    record = {"num_frames": 20, "height": 40, "width": 56}
    source = open_source(write_tar(tmp_path / "x.tar", {"a.mp4": clip_bytes(9), "a.json": record}))
    assert source.describe(0).frames == 20
    with pytest.raises(InputError, match=r"x.tar/a.mp4: ends after 9 frames, and frame 11 was asked"):
        source.read(0, 7, 5, 1)


def test_shards_go_before_loose_clips_and_a_tar_of_something_else_does_not(
    clip_bytes: Callable[..., bytes], write_tar: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "loose.mp4").write_bytes(clip_bytes(5))
    write_tar(tmp_path / "notes.tar", {"a.txt": b"no clip"})
    assert open_source(tmp_path).describe(0).key == "loose.mp4"
    write_tar(tmp_path / "shard.tar", {"a.mp4": clip_bytes(5)})
    source = open_source(tmp_path)
    assert [source.describe(k).key for k in range(len(source))] == ["shard.tar/a.mp4"]


def test_what_holds_nothing_usable_is_one_line(
    write_tar: Callable[..., Path], tmp_path: Path, clip_bytes: Callable[..., bytes]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "words.txt").write_text("words")
    write_tar(tmp_path / "tars" / "a.tar", {"a.txt": b"no clip"})
    np.save(tmp_path / "latents.npy", np.zeros((2, 3)))
    cases = {
        "empty": "holds no shards of clips",
        "words.txt": "is no folder",
        "missing": "no such file",
        "tars": "holds no shards of clips",
        "tars/a.tar": "holds no clip and no picture",
        "latents.npy": "clips are uint8 or floats",
    }
    for name, words in cases.items():
        with pytest.raises(InputError, match=words) as caught:
            open_source(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_tar_that_ends_early_gives_the_clips_before_the_break(
    clip_bytes: Callable[..., bytes], write_tar: Callable[..., Path], tmp_path: Path
) -> None:
    path = write_tar(tmp_path / "x.tar", {f"{n}.mp4": clip_bytes(5, seed=n) for n in range(4)}, tarfile.PAX_FORMAT)
    size = len(clip_bytes(5, seed=0)) + 1024
    path.write_bytes(path.read_bytes()[: 2 * size + 1500])
    said: list[str] = []
    source = open_source(path, say=said.append)
    assert [source.describe(k).key for k in range(len(source))] == ["x.tar/0.mp4", "x.tar/1.mp4"]
    assert source.read(1, 0, 5, 1).shape == (5, 40, 56, 3)
    assert len(said) == 1


def test_a_picture_lies_as_its_orientation_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg", exif=exif)
    source = open_source(tmp_path)
    assert (source.describe(0).height, source.describe(0).width) == (30, 20)
    assert source.read(0, 0, 1, 1).shape == (1, 30, 20, 3)


def test_videos_without_a_frame_count_are_described_by_their_length(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", Video(frames=np.zeros((8, 16, 16, 3), np.uint8), rate=Fraction(8)))
    with av.open(str(tmp_path / "a.mp4")) as source, av.open(str(tmp_path / "b.mkv"), "w") as copy:
        stream = copy.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                copy.mux(packet)
    assert [open_source(tmp_path).describe(k).frames for k in range(2)] == [8, 8]
