"""One run over a folder of everything that a folder may hold: each is handled or put aside, and no more."""

import contextlib
import ctypes
import hashlib
import io
import json
import os
import re
import socket
import stat
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pyarrow.parquet as pq
import pytest

from cosmos_curate.cli import main

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="makes files that only Linux has")

OPTIONS = ["--detector", "content", "--set", "cut.guard_s=0.1"]
NOT = "^probe: is not a video, or is damaged: "

PUT_ASIDE = {
    "empty.mp4": "^probe: is empty: zero bytes$",
    "one byte.mp4": NOT,
    "zeros.mp4": NOT,
    "random.mp4": NOT,
    "text.mp4": NOT,
    "script.ts": NOT,
    "playlist.mp4": NOT,
    "list of files.mp4": "^probe: is not a video",
    "zip.mp4": NOT,
    "tar.mp4": NOT,
    "half.mp4": r"^probe: is cut short: \d+ bytes are missing at its end$",
    "tail.mp4": "^probe: is cut short: 10 bytes are missing at its end$",
    "head.mp4": r"^probe: is cut short: its index \(the moov box\) is missing$",
    "damaged.mkv": "^(probe|shots): is damaged after frame [0-9]+: ",
    "lying sizes.mp4": NOT,
    "lying times.mp4": NOT,
    "grows.ts": "changes its frame size at frame|is damaged after frame",
    "back in time.ts": "jumps back in time at frame|is damaged after frame",
    "sound.mp4": "^probe: has sound but no video$",
    "cover art.mp4": "^probe: has sound but no video$",
    "still.mp4": "^probe: is a still picture, not a video$",
    "1x1.mkv": "has a picture of 0x0 pixels, and encoders need 16x16$",
    "2x2.mkv": "has a picture of 2x2 pixels, and encoders need 16x16$",
    "15x9.mkv": "has a picture of 14x8 pixels, and encoders need 16x16$",
    "huge.mkv": "^probe: is 20000x16 pixels: a side is longer than 16384$",
    "one frame.mp4": "^cut: no shot outlasts its guard bands of 0.1 s$",
    "two frames.mp4": "^cut: no shot outlasts its guard bands of 0.1 s$",
    "dangling.mp4": "^identify: No such file or directory$",
    "self.mp4": "^identify: Too many levels of symbolic links$",
    "forbidden.mp4": "^identify: Permission denied$",
}
"""Sources and the reason for which each is put aside."""
if int(av.__version__.partition(".")[0]) < 16:  # its FFmpeg reads over that damage
    del PUT_ASIDE["damaged.mkv"]
WHOLE = {"source_width": 96, "source_height": 64, "width": 96, "height": 64, "num_frames": 14, "rotation": 0}
USED = {
    "plain.mp4": WHOLE | {"source_codec": "h264", "variable_rate": False},
    "gray\nline.mkv": WHOLE | {"source_codec": "ffv1"},
    "'gray' \"10\".mkv": WHOLE,
    "ten bit.MP4": WHOLE,
    "-rf.mp4": WHOLE,
    f"{'x' * 196}.mkv": WHOLE,
    "..alpha..mov": None,
    "a..b.mov": WHOLE | {"source_codec": "prores"},
    "100%d.webm": WHOLE | {"source_codec": "vp9"},
    "[a]*?.mov": WHOLE | {"source_codec": "png"},
    "$(touch pwned).mov": WHOLE | {"source_codec": "qtrle"},
    "back\\slash.gif": WHOLE | {"source_codec": "gif"},
    "<img src=x onerror=alert(1)>.avi": WHOLE | {"source_codec": "rawvideo"},
    "\N{GRINNING FACE} e\N{COMBINING ACUTE ACCENT}.avi": WHOLE | {"source_codec": "mjpeg"},
    "\x1b[31mred\t.mpg": {"num_frames": 10, "source_codec": "mpeg2video"},
    "file:pipe:0.mkv": WHOLE,
    "16x16.mkv": {"width": 16, "height": 16, "num_frames": 14},
    "17x31.mkv": {"source_width": 17, "source_height": 31, "width": 16, "height": 30},
    "4096x32.mkv": {"width": 4096, "height": 32},
    "16x600.mkv": {"width": 16, "height": 600},
    "black.mp4": WHOLE | {"brightness": 0.0, "keep": False},
    "dark scene.mp4": {"num_frames": 30},
    "variable rate.mp4": {"variable_rate": True, "keep": True},
    "gap of minutes.mp4": None,
    "starts late.mp4": WHOLE,
    "on its side.mp4": {"source_width": 64, "source_height": 96, "width": 64, "height": 96},
    "interlaced.mp4": {"width": 96, "height": 64},
    "wide pixels.mp4": {"source_width": 128, "width": 128, "height": 64},
    "two streams.mp4": WHOLE,
    "cover first.mp4": WHOLE,
    "fragmented.mp4": WHOLE,
    "folder.mp4/inner.mp4": WHOLE,
    "link.mp4": WHOLE,
    "copy of the forbidden.mp4": WHOLE,
}
"""Sources that give a clip, and what is said of it; None for several clips or a hidden file."""
HIDDEN = {"..alpha..mov"}

PASSED_BY = {
    "caf?.mp4": "its name is not UTF-8",
    "clips": "no video by its name",
    "closed": "folder: Permission denied",
    "device.mp4": "no regular file",
    "fifo.mp4": "no regular file",
    "notes.txt": "no video by its name",
    "output": "no video by its name",
    "socket.mp4": "no regular file",
}


def encoder(*arguments: object) -> None:
    program = imageio_ffmpeg.get_ffmpeg_exe()
    subprocess.run([program, "-nostdin", "-v", "error", "-y", *map(str, arguments)], check=True)


@pytest.fixture(scope="module")
def pan(picture):
    """Return the function that makes frames of a pan over a picture of this seed."""

    def frames(seed: int, count: int = 16, height: int = 64, width: int = 96) -> np.ndarray:
        large = picture(height + 40, width + 64, seed)
        return np.stack([large[n % 40 : n % 40 + height, 2 * (n % 30) : 2 * (n % 30) + width] for n in range(count)])

    return frames


def write_odd(path: Path, frames: np.ndarray, codec: str, pixel_format: str, rate: int = 8) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixel_format
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=pixel_format)
            frame.pts, frame.time_base = number, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def make_videos(root: Path, video, pan) -> None:
    """Write what can be used."""
    for seed, (name, codec, pixel_format, size) in enumerate(
        [
            ("gray\nline.mkv", "ffv1", "gray", (64, 96)),
            ("'gray' \"10\".mkv", "ffv1", "gray10le", (64, 96)),
            (f"{'x' * 196}.mkv", "ffv1", "yuv444p12le", (64, 96)),
            ("a..b.mov", "prores_ks", "yuva444p10le", (64, 96)),
            ("100%d.webm", "libvpx-vp9", "yuva420p", (64, 96)),
            ("[a]*?.mov", "png", "rgba", (64, 96)),
            ("$(touch pwned).mov", "qtrle", "argb", (64, 96)),
            ("back\\slash.gif", "gif", "rgb8", (64, 96)),
            ("<img src=x onerror=alert(1)>.avi", "rawvideo", "bgr24", (64, 96)),
            ("\N{GRINNING FACE} e\N{COMBINING ACUTE ACCENT}.avi", "mjpeg", "yuvj420p", (64, 96)),
            ("file:pipe:0.mkv", "ffv1", "yuv422p", (64, 96)),
            ("1x1.mkv", "ffv1", "yuv444p", (1, 1)),
            ("2x2.mkv", "ffv1", "yuv444p", (2, 2)),
            ("15x9.mkv", "ffv1", "yuv444p", (9, 15)),
            ("16x16.mkv", "ffv1", "yuv444p", (16, 16)),
            ("17x31.mkv", "ffv1", "yuv444p", (31, 17)),
            ("4096x32.mkv", "ffv1", "yuv420p", (32, 4096)),
            ("16x600.mkv", "ffv1", "yuv420p", (600, 16)),
            ("huge.mkv", "ffv1", "yuv420p", (16, 20000)),
        ]
    ):
        write_odd(root / name, pan(seed, 2 if "huge" in name else 16, *size), codec, pixel_format)
    write_odd(root / "\x1b[31mred\t.mpg", pan(20), "mpeg2video", "yuv420p", rate=25)
    video(root / "plain.mp4", pan(21), rate=8)
    video(root / "ten bit.MP4", pan(22), rate=8, pixel_format="yuv420p10le")
    video(root / "-rf.mp4", pan(23), rate=8, pixel_format="yuv444p")
    video(root / "..alpha..mov", pan(24), rate=8)
    video(root / "black.mp4", np.zeros((16, 64, 96, 3), np.uint8), rate=8)
    frames = pan(25, 32)
    frames[8:20] = 0
    video(root / "dark scene.mp4", frames, rate=8)
    times = np.cumsum(np.random.default_rng(0).uniform(0.02, 0.3, 24))
    video(root / "variable rate.mp4", pan(26, 24), times_s=times - times[0])
    times = np.arange(24) / 8 + 100 * (np.arange(24) > 11)
    video(root / "gap of minutes.mp4", pan(27, 24), times_s=times)
    video(root / "starts late.mp4", pan(28), times_s=1000 + np.arange(16) / 8)
    video(root / "one frame.mp4", pan(29, 1))
    video(root / "two frames.mp4", pan(30, 2))
    plain, still = root / "plain.mp4", root / "still.mp4"
    encoder("-display_rotation", "90", "-i", plain, "-c", "copy", root / "on its side.mp4")
    encoder("-i", plain, "-vf", "interlace", "-flags", "+ilme+ildct", root / "interlaced.mp4")
    encoder("-i", plain, "-vf", "setsar=4/3", root / "wide pixels.mp4")
    second = ["-f", "lavfi", "-i", "testsrc=s=64x48:r=8:d=2", "-map", "0", "-map", "1"]
    encoder("-i", plain, *second, root / "two streams.mp4")
    encoder("-i", plain, "-c", "copy", "-movflags", "frag_keyframe+empty_moov", root / "fragmented.mp4")
    encoder("-f", "lavfi", "-i", "testsrc=s=64x48", "-frames:v", "1", "-f", "image2", "-c:v", "png", still)
    cover = ["-map", "0", "-map", "1", "-c", "copy", "-disposition:v:0", "attached_pic"]
    encoder("-i", still, "-i", plain, *cover, root / "cover first.mp4")
    encoder("-f", "lavfi", "-i", "sine=d=2", root / "sound.mp4")
    encoder("-i", root / "sound.mp4", "-i", still, *cover, root / "cover art.mp4")


def make_broken(root: Path, pan) -> None:
    """Write what is no video, or no longer one."""
    data, rng = (root / "plain.mp4").read_bytes(), np.random.default_rng(0)

    def overwritten(at: int, new: bytes) -> bytes:
        return data[:at] + new + data[at + len(new) :]

    for name, content in {
        "empty.mp4": b"",
        "one byte.mp4": b"x",
        "zeros.mp4": bytes(100_000),
        "random.mp4": rng.bytes(5000),
        "text.mp4": b"hello world\n" * 100,
        "notes.txt": b"no video",
        "script.ts": b"export const x: number = 1\n",
        "playlist.mp4": b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nplain.mp4\n#EXT-X-ENDLIST\n",
        "list of files.mp4": b"ffconcat version 1.0\nfile 'plain.mp4'\n",
        "half.mp4": data[: len(data) // 2],
        "tail.mp4": data[:-10],
        "head.mp4": data[:32],
        "lying sizes.mp4": overwritten(data.find(b"stsz") + 12, b"\xff" * 60),
        "lying times.mp4": overwritten(data.find(b"stts") + 8, b"\xff" * 12),
        "forbidden.mp4": data + b"\0\0\0\x0cfree1234",
        "copy of the forbidden.mp4": data + b"\0\0\0\x0cfree1234",
    }.items():
        (root / name).write_bytes(content)
    whole = (root / "file:pipe:0.mkv").read_bytes()
    middle = len(whole) // 2
    if "damaged.mkv" in PUT_ASIDE:
        (root / "damaged.mkv").write_bytes(whole[:middle] + rng.bytes(3000) + whole[middle + 3000 :])
    for name, sizes in {"grows.ts": ("64x48", "96x64"), "back in time.ts": ("96x64", "96x64")}.items():
        parts = []
        for size in sizes:
            encoder("-f", "lavfi", "-i", f"testsrc=s={size}:d=4", "-c:v", "mpeg2video", root / name)
            parts.append((root / name).read_bytes())
        (root / name).write_bytes(b"".join(parts))
    with zipfile.ZipFile(root / "zip.mp4", "w") as archive:
        archive.writestr("../../escaped.mp4", data)
    with tarfile.open(root / "tar.mp4", "w") as archive:
        member = tarfile.TarInfo("../../escaped.mp4")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))


def make_tree(root: Path) -> None:
    """Write what is no regular file, or lies where it is hard to come by."""
    data = (root / "plain.mp4").read_bytes()
    for name in ("folder.mp4", "empty.mkv", "closed"):
        (root / name).mkdir()
    (root / "folder.mp4" / "inner.mp4").write_bytes(data + b"\0\0\0\x0cfree5678")
    (root / "closed" / "inside.mp4").write_bytes(data)
    with open(os.fsencode(root) + b"/caf\xe9.mp4", "wb") as file:
        file.write(data)
    os.mkfifo(root / "fifo.mp4")
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as bound, contextlib.chdir(root):
        bound.bind("socket.mp4")
    links = {"self.mp4": "self.mp4", "dangling.mp4": "gone.mp4", "device.mp4": "/dev/zero", "link.mp4": "plain.mp4"}
    links |= {"loop": ".", "folder.mp4/up": "..", "output": "../out", "clips": "../out/clips"}
    for name, target in links.items():
        (root / name).symlink_to(target)
    (root / "forbidden.mp4").chmod(0)
    (root / "closed").chmod(0)


@contextlib.contextmanager
def permissions_hold() -> Iterator[None]:
    """Give up root's right to read everything, in this thread and those that it starts."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0
    before, overrides = sets[0], 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    sets[0] = before & ~overrides
    assert libc.capset(header, sets) == 0
    try:
        yield
    finally:
        sets[0] = before
        assert libc.capset(header, sets) == 0


def snapshot(root: Path) -> dict[str, tuple[int, int, str]]:
    """Return mode, time of change and content of all that is below a folder."""
    found = {}
    for folder, folders, files in os.walk(os.fsencode(root)):
        for name in (*folders, *files):
            path = os.path.join(folder, name)
            status = os.lstat(path)
            content = b""
            if stat.S_ISREG(status.st_mode):
                with contextlib.suppress(PermissionError), open(path, "rb") as file:
                    content = file.read()
            found[os.fsdecode(path)] = (status.st_mode, status.st_mtime_ns, hashlib.sha256(content).hexdigest())
    return found


class Ran:
    """What came of a run."""

    def __init__(self, home: Path, code: int, out: str, err: str) -> None:
        self.home, self.code, self.out, self.err = home, code, out, err
        self.rows: dict[str, list[dict]] = {}
        for row in pq.read_table(home / "out" / "manifest.parquet").to_pylist():
            self.rows.setdefault(row["source"], []).append(row)
        self.report = json.loads((home / "out" / "report.json").read_text())


@pytest.fixture(scope="module")
def home(tmp_path_factory, video, pan) -> Iterator[Path]:
    """Return a folder that has the videos, in `in`, and nothing else but a folder for temporary files."""
    path = tmp_path_factory.mktemp("home")
    (path / "tmp").mkdir()
    (path / "in").mkdir()
    make_videos(path / "in", video, pan)
    make_broken(path / "in", pan)
    make_tree(path / "in")
    yield path
    (path / "in" / "closed").chmod(0o700)
    (path / "in" / "forbidden.mp4").chmod(0o600)


@pytest.fixture(scope="module")
def ran(home) -> Ran:
    """Return what came of a first run, and check what it left alone."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, permissions_hold():
        patch.setenv("TMPDIR", str(home / "tmp"))
        patch.setattr("tempfile.tempdir", None)
        before = snapshot(home / "in")
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(["run", str(home / "in"), str(home / "out"), *OPTIONS])
        assert snapshot(home / "in") == before
    return Ran(home, code, out.getvalue(), err.getvalue())


def test_the_run_goes_on_and_leaves_all_else_alone(ran):
    assert (ran.code, ran.err) == (0, "")
    assert sorted(path.name for path in ran.home.iterdir()) == ["in", "out", "tmp"]
    assert list((ran.home / "tmp").iterdir()) == []
    assert not list(ran.home.rglob("escaped.mp4"))
    assert not Path("pwned").exists()
    names = {path.name for path in (ran.home / "out").iterdir()}
    assert names == {
        "clips",
        "config.json",
        "embeddings.parquet",
        "ledger",
        "manifest.parquet",
        "report.json",
        "shards",
    }
    assert not [path for path in (ran.home / "out").rglob("*") if path.name.startswith(".") or path.is_symlink()]


def test_every_source_has_its_rows_and_no_other_has(ran):
    assert set(ran.rows) == set(PUT_ASIDE) | set(USED) - HIDDEN
    assert ran.report["videos"] == len(ran.rows)
    assert ran.report["quarantined"] == len(PUT_ASIDE)
    assert {one["name"]: one["reason"] for one in ran.report["skipped"]} == PASSED_BY
    assert "caf?.mp4 is passed by: its name is not UTF-8" in ran.out
    assert all(line.isprintable() for line in ran.out.splitlines())


@pytest.mark.parametrize("name", PUT_ASIDE)
def test_put_aside_with_its_reason(ran, name):
    [row] = ran.rows[name]
    assert re.search(PUT_ASIDE[name], row["quarantine"]), row["quarantine"]
    assert (row["keep"], row["drop_rule"], row["drop_value"]) == (False, "quarantine", row["quarantine"])
    assert row["shard"] is None
    assert str(ran.home) not in row["quarantine"]


@pytest.mark.parametrize("name", set(USED) - HIDDEN)
def test_used_as_it_is(ran, name):
    for row in ran.rows[name]:
        assert row["quarantine"] is None
        assert row["camera_motion"]
        assert 0 <= row["quality"] <= 100
        assert np.isfinite([row["motion"], row["brightness"], row["shake"], row["text_area"]]).all()
        clip = row["dup_of"] if name == "plain.mp4" else row["clip_id"]  # the same bytes as what the link leads to
        path = ran.home / "out" / "clips" / clip[:2] / f"{clip}.mp4"
        assert path.stat().st_size == row["bytes"]
    if USED[name] is not None:
        [row] = ran.rows[name]
        assert {column: row[column] for column in USED[name]} == USED[name]


def test_equal_bytes_are_one_video_and_the_unreadable_one_is_another(ran):
    [forbidden], [copy] = ran.rows["forbidden.mp4"], ran.rows["copy of the forbidden.mp4"]
    assert forbidden["source_sha256"] != copy["source_sha256"]
    [plain], [link] = ran.rows["plain.mp4"], ran.rows["link.mp4"]
    assert plain["source_sha256"] == link["source_sha256"]
    assert plain["dup_of"] == link["clip_id"]


def test_again_the_same_and_nothing_of_the_output_is_taken_for_input(ran):
    manifest = (ran.home / "out" / "manifest.parquet").read_bytes()
    with permissions_hold():
        assert main(["run", str(ran.home / "in"), str(ran.home / "out"), *OPTIONS]) == 0
    assert (ran.home / "out" / "manifest.parquet").read_bytes() == manifest
    report = json.loads((ran.home / "out" / "report.json").read_text())
    skipped = {one["name"]: one["reason"] for one in report["skipped"]}
    assert skipped == {name: PASSED_BY[name] for name in PASSED_BY if name not in ("output", "clips")}
    for name, stage in report["stages"].items():
        if name not in ("identify", "cut"):
            assert stage["reused"] == stage["items"], name


def test_the_page_shows_names_as_text(ran, tmp_path):
    assert main(["stats", str(ran.home / "out"), "--page", str(tmp_path / "page.html")]) == 0
    assert "<img src=x" not in (tmp_path / "page.html").read_text()
