"""Long video by chunks: what each is given, what it adds, and that memory, seeds and length are as promised."""

import inspect
import weakref
from itertools import islice

import pytest
import torch
from torch import Tensor

from cosmos_diffusion.rollout import DRIFT, Continues, chunk_seed, chunks_of, rollout
from cosmos_tokenizer import Geometry, InputError


class Counter:
    """Makes clips that count on from what they are given: frame ``n`` of the whole is ``n``."""

    geometry = Geometry(temporal=8, spatial=8)

    def __init__(self, frames: int = 25, views: int = 1, *, most: int = 1000) -> None:
        self.frames, self.views, self.most = frames, views, most
        self.calls: list[dict] = []
        self.made: list[weakref.ref] = []

    def continue_from(
        self, given: Tensor | None, *, prompt: str | None, seed: int, augment: int | float | None
    ) -> Tensor | None:
        known = 0 if given is None else given.shape[2] // self.views
        self.calls.append({"known": known, "prompt": prompt, "seed": seed, "augment": augment})
        if len(self.calls) > self.most:
            return None
        views = []
        for view in range(self.views):
            begin = torch.zeros(1, 3, 0, 2, 2) if given is None else given.chunk(self.views, dim=2)[view]
            start = begin[0, 0, -1, 0, 0] + 1 if known else 100 * view
            rest = (start + torch.arange(self.frames - known)).view(1, 1, -1, 1, 1).expand(1, 3, -1, 2, 2)
            views.append(torch.cat([begin, rest], dim=2))
        clip = torch.cat(views, dim=2)
        self.made.append(weakref.ref(clip))
        return clip


def numbers(video: Tensor) -> list[int]:
    return video[0, 0, :, 0, 0].int().tolist()


def given_frames(count: int, first: int = 0) -> Tensor:
    return (first + torch.arange(float(count))).view(1, 1, -1, 1, 1).expand(1, 3, -1, 2, 2)


@pytest.mark.parametrize("frames", [1, 24, 25, 26, 41, 42, 70])
@pytest.mark.parametrize("known", [0, 1, 17])
def test_frames_follow_one_another_and_are_as_many_as_were_asked_for(frames: int, known: int) -> None:
    if frames <= known:
        return
    maker = Counter()
    assert isinstance(maker, Continues)
    chunks = list(rollout(maker, frames, given=given_frames(known) if known else None))
    assert numbers(torch.cat([chunk.video for chunk in chunks], dim=2)) == list(range(frames))
    assert [chunk.first for chunk in chunks] == [int(chunk.video[0, 0, 0, 0, 0]) for chunk in chunks]
    assert [call["known"] for call in maker.calls] == [known, *[9] * (len(chunks) - 1)]
    assert [chunk.given for chunk in chunks] == [call["known"] for call in maker.calls]
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    assert {chunk.chunks for chunk in chunks} == {len(chunks)} == {chunks_of(frames, chunk=25, overlap=9)}
    assert len(chunks) == {1: 1, 24: 1, 25: 1, 26: 2, 41: 2, 42: 3, 70: 4}[frames]


@pytest.mark.parametrize("overlap", [1, 9, 17])
def test_a_chunk_is_given_the_end_of_the_one_before(overlap: int) -> None:
    maker = Counter()
    seen: list[list[int]] = []
    real = maker.continue_from

    def watching(given: Tensor | None, **told: object) -> Tensor | None:
        seen.append([] if given is None else numbers(given))
        return real(given, **told)  # pyright: ignore[reportArgumentType]

    maker.continue_from = watching
    video = torch.cat([chunk.video for chunk in rollout(maker, 60, overlap=overlap)], dim=2)
    assert numbers(video) == list(range(60))
    ends = [25 + index * (25 - overlap) for index in range(len(seen) - 1)]
    assert seen == [[], *(list(range(end - overlap, end)) for end in ends)]


def test_views_go_on_side_by_side() -> None:
    maker = Counter(views=2)
    given = torch.cat([given_frames(9), given_frames(9, first=100)], dim=2)
    chunks = list(rollout(maker, 50, given=given))
    for view, first in enumerate((0, 100)):
        frames = [n for chunk in chunks for n in numbers(chunk.video.chunk(2, dim=2)[view])]
        assert frames == list(range(first, first + 50))


def test_only_a_chunk_is_held() -> None:
    maker = Counter()
    alive = []
    for _ in rollout(maker, 500):
        alive.append(sum(clip() is not None for clip in maker.made))
    assert len(maker.made) > 20
    assert max(alive) <= 2


def test_chunks_are_made_when_they_are_asked_for() -> None:
    maker = Counter()
    assert len(list(islice(rollout(maker, 10**9), 3))) == 3
    assert len(maker.calls) == 3


def test_the_first_chunk_is_the_makers_own_and_seeds_are_never_shared() -> None:
    maker = Counter()
    list(rollout(maker, 100, seed=11))
    seeds = [call["seed"] for call in maker.calls]
    assert seeds[0] == 11
    assert seeds == [chunk_seed(11, index) for index in range(len(seeds))]
    every = {chunk_seed(seed, index) for seed in range(30) for index in range(30)}
    assert len(every) == 900
    assert all(0 <= seed < 1 << 63 for seed in every)
    assert chunk_seed((1 << 63) - 1, 5) != chunk_seed((1 << 63) - 2, 5)


def test_prompts_and_drift_are_of_the_chunks_in_turn() -> None:
    maker = Counter()
    chunks = list(rollout(maker, 80, given=given_frames(1), prompts=["a", None, "b"], drift=DRIFT))
    told = [(call["prompt"], call["augment"]) for call in maker.calls]
    assert told == [("a", 0.001), (None, 0.2), ("b", 0.5), ("b", 0.5), ("b", 0.5)]
    assert [(chunk.prompt, chunk.augment) for chunk in chunks] == told
    plain = Counter()
    list(rollout(plain, 50, prompts="a"))
    assert [(call["prompt"], call["augment"]) for call in plain.calls] == [("a", None)] * 3


def test_nothing_given_has_no_noise_level() -> None:
    maker = Counter()
    list(rollout(maker, 50, drift=DRIFT))
    assert [call["augment"] for call in maker.calls] == [None, 0.2, 0.5]


def test_callback_and_maker_end_it() -> None:
    maker = Counter()
    chunks = list(rollout(maker, 200, callback=lambda chunk: chunk.index == 2))
    assert len(chunks) == len(maker.calls) == 3
    assert len(list(rollout(Counter(most=4), 200))) == 4


def test_defaults_fit_the_makers_own_length() -> None:
    maker = Counter(frames=9)
    assert numbers(torch.cat([chunk.video for chunk in rollout(maker, 20)], dim=2)) == list(range(20))
    assert {call["known"] for call in maker.calls[1:]} == {1}
    picture = Counter(frames=1)
    assert len(list(rollout(picture, 1))) == 1
    with pytest.raises(InputError, match="a chunk has 1 frames"):
        rollout(picture, 2)


@pytest.mark.parametrize(
    ("frames", "options", "message"),
    [
        (0, {}, "frames is 0, and 0 are given"),
        (9, {"given": given_frames(9)}, "frames is 9, and 9 are given"),
        (60, {"given": given_frames(10)}, "given frames: 10, and a chunk has 25"),
        (60, {"given": given_frames(25)}, "given frames: 25, and a chunk has 25"),
        (60, {"given": given_frames(0)}, "given frames: 0"),
        (60, {"overlap": 0}, "overlap: 0"),
        (60, {"overlap": 8}, "overlap: 8, .* 1 [+] a multiple of 8"),
        (60, {"overlap": 25}, "overlap: 25"),
        (60, {"seed": -1}, "seed is -1"),
        (60, {"seed": 1 << 63}, "seed is 9223372036854775808"),
        (60, {"drift": []}, "drift is"),
        (60, {"drift": [0.1, -0.1]}, r"drift is \[0.1, -0.1\]"),
        (60, {"drift": [float("nan")]}, "drift is"),
        (60, {"prompts": []}, "prompts is empty"),
    ],
)
def test_what_cannot_be_rolled_out_is_refused_at_once(frames: int, options: dict, message: str) -> None:
    unchecked = inspect.unwrap(rollout)
    with pytest.raises(InputError, match=message):
        unchecked(Counter(), frames, **options)


def test_views_and_clips_of_another_length_are_refused() -> None:
    with pytest.raises(InputError, match="3 frames are given: 2 views"):
        rollout(Counter(views=2), 60, given=given_frames(3))
    maker = Counter()
    maker.continue_from = lambda given, **told: torch.zeros(1, 3, 17, 2, 2)  # noqa: ARG005
    with pytest.raises(InputError, match="a chunk has 17 frames, and 1 times 25 were due"):
        list(rollout(maker, 60))
