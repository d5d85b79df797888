"""Scores of predictions of rendered clips: what they are of clips whose masks and motion are known."""

import dataclasses
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from cosmos_posttrain import evaluate
from cosmos_posttrain.cli import main
from cosmos_posttrain.evaluate import physics, scores, tables
from cosmos_tokenizer import InputError
from cosmos_tokenizer.video import Video, write_video

RED, GREEN, BLUE = (220, 30, 40), (40, 200, 60), (30, 60, 210)
HEIGHT, WIDTH = 45, 58


def clip_of(
    paths: list[tuple[tuple[int, int, int], int, list[tuple[int, int]]]], seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Squares (colour, side, top left corner of each frame) before a grey pattern: frames and masks."""
    rng = np.random.default_rng(seed)
    length = len(paths[0][2])
    frames = np.repeat(rng.integers(90, 140, (HEIGHT, WIDTH, 1), dtype=np.uint8), 3, -1)[None].repeat(length, 0)
    masks = np.zeros((length, HEIGHT, WIDTH), np.uint8)
    for number, (colour, side, corners) in enumerate(paths, 1):
        for place, (top, left) in enumerate(corners):
            where = np.s_[place, max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)]
            shade = rng.uniform(0.6, 1.0, (*masks[where].shape, 1))
            frames[where] = (np.array(colour) * shade).astype(np.uint8)
            masks[where] = number
    return frames, masks


def walk(start: tuple[int, int], step: tuple[int, int], length: int = 13) -> list[tuple[int, int]]:
    return [(start[0] + k * step[0], start[1] + k * step[1]) for k in range(length)]


MOVING = (RED, 7, walk((3, 2), (2, 3)))
STILL = (BLUE, 8, walk((30, 46), (0, 0)))


def test_a_perfect_prediction_has_no_error_and_finds_every_object() -> None:
    frames, masks = clip_of([MOVING, STILL])
    for given in (1, 9):
        perfect = evaluate.score(frames, masks, frames, given=given)
        assert (perfect.iou, perfect.error, perfect.psnr) == (1.0, 0.0, scores.MOST_PSNR)
        assert perfect.ssim == pytest.approx(1)
        assert perfect.moved_iou == pytest.approx(perfect.motion)
        assert perfect.still_error > 0


def test_colours_are_found_in_shade_and_told_apart_and_grey_is_nothing() -> None:
    rng = np.random.default_rng(3)
    hues = [(230, 60, 40), (230, 140, 40), (225, 210, 40)]  # 20 degrees and more apart
    frames, masks = clip_of([(colour, 9, walk((4, 4 + 18 * k), (1, 0))) for k, colour in enumerate(hues)])
    objects = evaluate.reference_colours(frames[:1], masks[:1])
    dark = (frames * rng.uniform(0.4, 1, (*frames.shape[:3], 1))).astype(np.uint8)
    for number, found in zip(objects.numbers, objects.find(dark), strict=True):
        np.testing.assert_array_equal(found, masks == number)
    # Half grey is an edge and still counts, three quarters do not.
    for share, there in ((0.3, True), (0.75, False)):
        mixed = (frames * (1 - share) + 160.0 * share).astype(np.uint8)
        assert (objects.find(mixed).any(0)[masks > 0].mean() > 0.5) == there


def test_an_object_that_few_pixels_show_in_the_last_given_frame_does_not_count() -> None:
    enters = [(20, -7), (20, -4), (20, -2), *walk((20, 0), (0, 2), 10)]
    frames, masks = clip_of([(GREEN, 7, enters), STILL])
    assert evaluate.reference_colours(frames[:1], masks[:1]).numbers.tolist() == [2]
    assert evaluate.reference_colours(frames[:2], masks[:2]).numbers.tolist() == [1, 2]
    assert evaluate.reference_colours(frames[2::-1], masks[2::-1]).numbers.tolist() == [2]  # it leaves
    empty, nothing = np.full_like(frames, 120), np.zeros_like(masks)
    alone = evaluate.score(empty, nothing, empty, given=1)
    assert np.isnan(alone.iou)
    assert (alone.motion, alone.moved_iou) == (0, 0)


def test_motion_weighted_iou_ignores_still_objects_and_iou_does_not() -> None:
    frames, masks = clip_of([MOVING, STILL])
    without = frames.copy()
    without[masks == 2] = 120
    seen, missed = (evaluate.score(frames, masks, prediction, given=1) for prediction in (frames, without))
    assert missed.moved_iou == seen.moved_iou
    assert missed.iou == pytest.approx(seen.iou - 0.5)
    gone = frames.copy()
    gone[masks == 1] = 120
    assert evaluate.score(frames, masks, gone, given=1).moved_iou == 0


def test_the_weights_are_one_less_the_overlap_with_the_last_given_frame() -> None:
    corners = [(30, 40), (10, 10), (10, 10), (10, 12), (10, 14), (10, 30)]
    frames, masks = clip_of([(RED, 8, corners)])
    share = [1, 6 / 10, 4 / 12, 0]  # overlaps of squares of 8, moved by 0, 2, 4 and 20
    still = evaluate.score(frames, masks, evaluate.copy_last_frame(frames[:2], frames=6), given=2)
    assert still.iou == pytest.approx(np.mean(share))
    assert still.motion == pytest.approx(np.mean([1 - s for s in share]))
    assert still.moved_iou == pytest.approx(np.mean([(1 - s) * s for s in share]))


def test_an_object_that_has_left_is_right_where_it_is_absent_and_wrong_where_it_is_not() -> None:
    frames, masks = clip_of([(RED, 7, walk((20, 2), (0, -3), 8))])
    assert masks[-1].max() == 0
    assert evaluate.score(frames, masks, frames, given=1).iou == 1
    stays = evaluate.score(frames, masks, evaluate.copy_last_frame(frames[:1], frames=8), given=1)
    assert stays.iou < 0.2


def test_error_is_compared_where_the_truth_or_the_prediction_changes() -> None:
    truth = np.full((3, 20, 21, 3), 100, np.uint8)
    truth[1:, 2:6, 2:6] = 160  # 16 pixels appear
    predicted = truth.copy()
    predicted[1:, 2:6, 2:6] = 150  # nearly right
    predicted[1:, 10:12, 10:15] = 130  # 10 pixels that were not to change
    predicted[:, 15:, 15:] = 100 + scores.CHANGE  # not counted: within the threshold
    result = evaluate.score(truth, np.zeros(truth.shape[:3], np.uint8), predicted, given=1)
    area = 20 * 21
    assert result.error == pytest.approx((16 * 10**2 + 10 * 30**2) / area)
    assert result.still_error == pytest.approx(16 * 60**2 / area)
    still = evaluate.score(truth, np.zeros(truth.shape[:3], np.uint8), np.full_like(truth, 100), given=1)
    assert still.error == still.still_error == pytest.approx(16 * 60**2 / area)
    frames, masks = clip_of([MOVING, STILL])
    later = evaluate.score(frames, masks, evaluate.copy_last_frame(frames[:9], frames=13), given=9)
    assert later.error == later.still_error > 0


def test_given_frames_are_not_scored() -> None:
    frames, masks = clip_of([MOVING, STILL])
    other = frames.copy()
    other[:9] = 255 - other[:9]
    assert evaluate.score(frames, masks, other, given=9) == evaluate.score(frames, masks, frames, given=9)


@pytest.mark.parametrize("step", [(0, 2), (1, -1), (-1, 1)])
def test_constant_velocity_is_exact_for_squares_that_move_uniformly(step: tuple[int, int]) -> None:
    frames, masks = clip_of([(RED, 6, walk((16, 24), step)), STILL, (GREEN, 5, walk((36, 3), (0, 1)))])
    flat = np.where(masks[..., None] > 0, frames[:1].repeat(13, 0), np.uint8(110))
    for colour, number in ((RED, 1), (BLUE, 2), (GREEN, 3)):
        flat[masks == number] = colour
    predicted = evaluate.constant_velocity(flat[:9], masks[:9], frames=13)
    np.testing.assert_array_equal(predicted, flat)


def test_constant_velocity_from_one_frame_is_the_last_frame_held_still() -> None:
    frames, masks = clip_of([MOVING, STILL])
    still = evaluate.copy_last_frame(frames[:1], frames=13)
    assert (still == frames[0]).all()
    np.testing.assert_array_equal(evaluate.constant_velocity(frames[:1], masks[:1], frames=13), still)


def test_constant_velocity_lets_the_object_that_ends_lower_pass_in_front() -> None:
    frames, masks = clip_of([(RED, 8, walk((12, 20), (0, 0))), (BLUE, 6, walk((8, 1), (0, 1))), STILL])
    lower = np.s_[12:14, 20]
    predicted = evaluate.constant_velocity(frames[:9], masks[:9], frames=24)
    assert (predicted[16:20][(slice(None), *lower)] == frames[8][lower]).all()
    swapped = evaluate.constant_velocity(frames[:9, ::-1], masks[:9, ::-1], frames=24)[:, ::-1]
    assert (swapped[16:20][(slice(None), *lower)] != frames[8][lower]).any(-1).all()


def test_constant_velocity_shows_the_surroundings_that_it_saw_behind_an_object() -> None:
    frames, masks = clip_of([(RED, 6, walk((20, 2), (0, 3)))])
    predicted = evaluate.constant_velocity(frames[:9], masks[:9], frames=13)
    left = (masks[8] > 0) & (masks[9:] == 0)  # seen in the first frames, covered in the ninth
    assert left.any((1, 2)).all()
    np.testing.assert_array_equal(predicted[9:][left], frames[9:][left])
    evaluate.constant_velocity(np.zeros_like(frames[:9]), np.ones_like(masks[:9]), frames=13)  # nothing but the object


def row(clip: str, scene: str, method: str, seed: int | None = None, **figures: float) -> evaluate.Row:
    plain = {"psnr": 20.0, "ssim": 0.5, "iou": 0.5, "motion": 0.5, "moved_iou": 0.1, "error": 4.0, "still_error": 8.0}
    figures = {name: float(figures.get(name, value)) for name, value in plain.items()}
    return evaluate.Row(clip=clip, scene=scene, given=1, method=method, seed=seed, score=evaluate.Score(**figures))


def test_summaries_pool_motion_and_error_and_say_where_the_model_is_better() -> None:
    rows = [
        row("a-1", "a", physics.MODEL, 0, motion=0.8, moved_iou=0.3, error=2),
        row("a-1", "a", physics.MODEL, 1, motion=0.8, moved_iou=0.5, error=4),
        row("a-1", "a", physics.COPY, motion=0.8, moved_iou=0.1, error=8),
        row("b-1", "b", physics.MODEL, motion=0.2, moved_iou=0.02, error=30, still_error=10),
        row("b-1", "b", physics.COPY, motion=0.2, moved_iou=0.04, error=10, still_error=10),
        row("c-1", "c", physics.MODEL, motion=0.001, moved_iou=0.0, error=2, still_error=0, iou=float("nan")),
        row("c-1", "c", physics.COPY, motion=0.001, moved_iou=0.001, error=0, still_error=0, iou=float("nan")),
    ]
    summary = evaluate.summarise(rows, 1)
    assert summary.moving == ("a", "b")
    assert (summary.better_iou, summary.better_error) == (("a",), ("a",))
    model = summary.figures["total"][physics.MODEL]
    assert model["motion_iou"].value == pytest.approx((0.4 + 0.02) / 1.001)
    assert model["error_ratio"].value == pytest.approx((3 + 30 + 2) / 18)
    assert model["iou"].value == pytest.approx(0.5)
    assert summary.gain.value == pytest.approx((0.42 - 0.141) / 1.001)
    assert summary.gain.low < summary.gain.value < summary.gain.high
    assert np.isnan(summary.figures["c"][physics.MODEL]["error_ratio"].value)
    text = evaluate.table(summary)
    assert "| a | model | 20.00 | 0.500 | 0.500 | 0.500 | 0.375 |" in text
    assert "| c | model | 20.00 | 0.500 | - | - | - |" in text
    assert "in 1 of 2 moving scenes and by 0.279 (" in evaluate.verdict(summary)


def test_intervals_hold_their_share_of_draws() -> None:
    rng = np.random.default_rng(5)
    held = 0
    for trial in range(60):
        values = rng.normal(20, 3, 40)
        rows = [row(f"a-{k}", "a", physics.COPY, psnr=float(value)) for k, value in enumerate(values)]
        figure = evaluate.summarise(rows, 1).figures["a"][physics.COPY]["psnr"]
        held += figure.low <= 20 <= figure.high
        assert figure.value == pytest.approx(values.mean()), trial
    assert 50 <= held <= 60


def write(folder: Path, key: str, number: int, paths: list, **changed: object) -> None:
    frames, masks = clip_of(paths, seed=number)
    frames, masks = np.pad(frames, ((0, 0), (0, 3), (0, 6), (0, 0)), "edge"), np.pad(masks, ((0, 0), (0, 3), (0, 6)))
    record = {
        "scene": key,
        "number": number,
        "num_frames": len(frames),
        "framerate": 12.0,
        "caption": f"Squares {key}, {number}.",
        **changed,
    }
    name = f"{key}-{number:04}"
    folder.mkdir(exist_ok=True)
    np.savez_compressed(folder / f"{name}.masks.npz", masks=masks)
    (folder / f"{name}.json").write_text(json.dumps(record))
    write_video(folder / f"{name}.mp4", Video(frames=frames, rate=Fraction(12)))


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of a moving scene and one of a still one, 13 frames of 48x64."""
    folder = tmp_path_factory.mktemp("worlds")
    write(folder, "slide", 1, [MOVING, STILL])
    write(folder, "slide", 2, [(GREEN, 9, walk((30, 4), (-1, 3))), STILL])
    write(folder, "rest", 1, [STILL])
    return folder


class Fake:
    """Predicts what it was made with, and keeps what it was asked."""

    def __init__(self, clips: list[evaluate.WorldClip]) -> None:
        self._clips, self.asked = {clip.caption: clip for clip in clips}, []

    def predict(self, given: np.ndarray, caption: str, *, fps: float, frames: int, seed: int) -> np.ndarray:
        clip = self._clips[caption]
        np.testing.assert_array_equal(given, clip.frames[: len(given)])
        self.asked.append((clip.key, len(given), fps, frames, seed))
        return clip.frames if seed == 0 else evaluate.copy_last_frame(given, frames=frames)


def test_every_method_is_scored_on_every_clip(worlds: Path) -> None:
    files = evaluate.find_clips(worlds)
    assert [file.key for file in files] == ["rest-0001", "slide-0001", "slide-0002"]
    fake = Fake([file.read() for file in files])
    assert isinstance(fake, evaluate.Predictor)
    rows = evaluate.evaluate(files, predictor=fake, round_trip=lambda frames: frames, seeds=(0, 4))
    assert len(rows) == 3 * 2 * 6
    assert sorted(fake.asked) == sorted(
        (file.key, given, 12.0, 13, seed) for file in files for given in (1, 9) for seed in (0, 4)
    )
    for given in (1, 9):
        summary = evaluate.summarise(rows, given)
        assert summary.moving == ("slide",)
        at = {method: figures["motion_iou"].value for method, figures in summary.figures["total"].items()}
        assert at[physics.COPY] < at[physics.MODEL] < at[physics.TRUTH] == at[physics.ROUND_TRIP]
        assert (at[physics.VELOCITY] > 0.8) == (given == 9)
        assert summary.better_iou == summary.better_error == ("slide",)


def test_a_prediction_of_another_length_is_refused(worlds: Path) -> None:
    class Short:
        def predict(self, given: np.ndarray, caption: str, *, fps: float, frames: int, seed: int) -> np.ndarray:
            return given

    with pytest.raises(InputError, match=r"rest-0001: the model made uint8 frames \(1, 48, 64, 3\)"):
        evaluate.evaluate(evaluate.find_clips(worlds), predictor=Short())
    frames, masks = clip_of([STILL])
    with pytest.raises(ValueError, match="differ in size"):
        evaluate.score(frames, masks, frames[1:], given=1)
    with pytest.raises(ValueError, match="13 conditioning frames of 13"):
        evaluate.score(frames, masks, frames, given=13)


def test_the_command_prints_tables_and_writes_every_figure(
    worlds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "figures.json"
    assert main(["evaluate", "--worlds", str(worlds), "--conditioning", "9", "1", "--out", str(out), "--json"]) == 0
    printed = capsys.readouterr().out
    assert "\n1 conditioning frame, 3 clips\n" in printed
    assert "| slide | tokenizer round trip |" in printed
    last, whole = json.loads(printed.splitlines()[-1]), json.loads(out.read_text())
    assert last.pop("command") == "evaluate"
    assert len(whole.pop("rows")) == 3 * 2 * 4
    assert last == whole
    assert list(last["conditioning"]) == ["1", "9"]
    assert last["conditioning"]["1"]["figures"]["rest"]["copy last frame"]["error_ratio"]["value"] is None
    assert main(["evaluate", "--worlds", str(worlds), "--limit", "2", "--conditioning", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["clips"] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--conditioning", "0"], "0 conditioning frames: give 1 or more"),
        (["--conditioning", "1", "13"], "rest-0001.mp4: has 13 frames, none behind 13 conditioning frames"),
        (["--seeds", "0"], "--seeds is 0; give 1 or more"),
        (["--limit", "-3"], "--limit is -3; give 1 or more"),
        (["--steps", "3"], "--steps and --guidance are a model's"),
        (["--device", "abacus"], "device is 'abacus'"),
        (["--tokenizer", "nano-none"], "nano-none"),
        (["--out", "missing/figures.json"], "--out is missing/figures.json: name a file in a folder that is there"),
        (["--out", "."], "--out is .: name a file"),
    ],
)
def test_bad_arguments_are_one_line(
    worlds: Path, tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    assert main(["evaluate", "--worlds", str(worlds), "--out", str(out), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_a_folder_without_whole_clips_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: no such folder; fill it with cosmos-posttrain worlds"):
        evaluate.find_clips(tmp_path / "nowhere")
    with pytest.raises(InputError, match="holds no clips"):
        evaluate.find_clips(tmp_path)
    folder = tmp_path / "worlds"
    write(folder, "slide", 1, [MOVING], num_frames=12)
    with pytest.raises(InputError, match="slide-0001.masks.npz: has masks"):
        evaluate.find_clips(folder)[0].read()
    (folder / "slide-0001.masks.npz").unlink()
    with pytest.raises(InputError, match="slide-0001.masks.npz: no such file"):
        evaluate.find_clips(folder)[0].read()
    for damage in ("{", "[]", '{"scene": "slide"}'):
        (folder / "slide-0001.json").write_text(damage)
        with pytest.raises(InputError, match="slide-0001.json: is damaged"):
            evaluate.find_clips(folder)
    (folder / "slide-0001.json").unlink()
    with pytest.raises(InputError, match="slide-0001.json: no such file"):
        evaluate.find_clips(folder)


def test_all_figures_are_plain() -> None:
    summary = evaluate.summarise([row("a-1", "a", physics.COPY)], 1)
    json.dumps(tables.plain([summary]))
    assert "1 moving scenes of 1" in evaluate.verdict(summary)
    assert dataclasses.asdict(summary)["gain"]["value"] != summary.figures["a"][physics.COPY]["psnr"].value
