"""Decoding on a GPU: by a stand-in for PyNvVideoCodec here, and by itself where it works."""

import importlib
import sys
from types import SimpleNamespace

import av
import numpy as np
import pytest

from cosmos_curate.errors import InputError, Unusable
from cosmos_curate.media.gpu_reading import decode_on_gpu
from cosmos_curate.media.reading import decode

# PyNvVideoCodec draws itself up on importing.
try:
    importlib.import_module("PyNvVideoCodec")
    HAS_GPU = True
except (ImportError, OSError, RuntimeError):
    HAS_GPU = False


class Demuxer:
    def __init__(self, filename):
        self.container = av.open(filename)

    def GetNvCodecId(self):  # noqa: N802
        return 4

    def __iter__(self):
        yield from self.container.demux(video=0)
        self.container.close()


class Decoder:
    def __init__(self, gpuid, codec, usedevicememory):
        assert not usedevicememory

    def Decode(self, packet):  # noqa: N802
        for frame in packet.decode():
            nv12 = np.ascontiguousarray(frame.reformat(format="nv12").to_ndarray())
            yield SimpleNamespace(framesize=lambda a=nv12: a.nbytes, GetPtrToPlane=lambda _, a=nv12: a.ctypes.data)


@pytest.fixture
def stand_in(monkeypatch):
    module = SimpleNamespace(CreateDemuxer=Demuxer, CreateDecoder=Decoder)
    monkeypatch.setitem(sys.modules, "PyNvVideoCodec", module)
    return module


def check(path):
    ours, theirs = list(decode(path)), list(decode_on_gpu(path))
    assert [s.time_s for s in ours] == [s.time_s for s in theirs]
    for one, other in zip(ours, theirs, strict=True):
        for size, gray in ((None, False), ((9, 15), True)):
            np.testing.assert_array_equal(one.picture.pixels(size, gray=gray), other.picture.pixels(size, gray=gray))


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p"])
def test_frames_are_those_of_the_cpu(video, tmp_path, picture, stand_in, pixel_format):
    whole = picture(80, 100)
    frames = np.stack([whole[i : i + 64, i : i + 80] for i in range(12)])
    check(video(tmp_path / "a.mp4", frames, pixel_format=pixel_format, times_s=np.cumsum(np.arange(12) / 50 + 0.01)))


def test_frames_that_are_missing_are_told(video, tmp_path, picture, stand_in, monkeypatch):
    path = video(tmp_path / "a.mp4", np.stack([picture(32, 32)] * 5))
    monkeypatch.setattr(Demuxer, "__iter__", lambda self: iter(list(self.container.demux(video=0))[:3]))
    with pytest.raises(Unusable, match="frames on a GPU, and its index says 5"):
        list(decode_on_gpu(path))


@pytest.mark.skipif(HAS_GPU, reason="there is a GPU")
def test_without_a_gpu_the_extra_is_named(video, tmp_path, picture):
    path = video(tmp_path / "a.mp4", picture(32, 32)[None])
    with pytest.raises(InputError, match=r"cosmos-curate\[gpu\]"):
        next(decode_on_gpu(path))


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_GPU, reason="needs a GPU and PyNvVideoCodec")
def test_frames_of_a_gpu_are_those_of_the_cpu(video, tmp_path, picture):
    whole = picture(280, 300)
    check(video(tmp_path / "a.mp4", np.stack([whole[i : i + 256, i : i + 256] for i in range(12)])))
