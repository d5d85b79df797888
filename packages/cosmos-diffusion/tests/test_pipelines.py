"""Pipelines against a loop by hand, given frames bit for bit, and clips that do not depend on one another."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cosmos_diffusion.channels import Conditions
from cosmos_diffusion.guidance import Guidance
from cosmos_diffusion.pipelines import Generation, Placement, Text2World, Video2World
from cosmos_diffusion.samplers import Step, euler, heun, res_2ab, unipc
from cosmos_diffusion.sigmas import karras
from cosmos_tokenizer import InputError

Maker = Callable


@pytest.fixture(scope="module")
def world(toy_world: Maker) -> Maker:
    return toy_world


@pytest.fixture(scope="module")
def codec(toy_codec: Maker) -> Maker:
    return toy_codec


@pytest.fixture(scope="module")
def pipeline(world: Maker, codec: Maker) -> Video2World:
    return Video2World(world(), codec=codec())


def clip(frames: int, height: int = 32, width: int = 48, batch: int = 1) -> Tensor:
    return torch.rand(batch, 3, frames, height, width) * 2 - 1


def assert_same(one: Generation, other: Generation) -> None:
    assert torch.equal(one.latents, other.latents)
    assert torch.equal(one.video, other.video)


@pytest.mark.parametrize(("given", "size"), [(0, (32, 48)), (1, (48, 80)), (9, (32, 48)), (17, (16, 48))])
def test_latents_are_those_of_a_loop_by_hand(given: int, size: tuple[int, int], world: Maker, codec: Maker) -> None:
    model, tokenizer = world(), codec()
    frames, seed, video = 25, 7, clip(given or 1, *size)
    settings = {"frames": frames, "height": size[0], "width": size[1], "fps": 10, "steps": 3, "guidance": 2.5}
    if given:
        made = Video2World(model, codec=tokenizer)(
            "it falls", video=video, condition_frames=given, seeds=seed, **settings
        )
    else:
        made = Text2World(model, codec=tokenizer)("it falls", seeds=seed, **settings)
    text, negative = model.text_encoder.encode(["it falls", "all rests"]).detach().chunk(2)
    generator = torch.Generator().manual_seed(seed)
    x = 80 * torch.randn(1, 4, 4, size[0] // 8, size[1] // 8, generator=generator)
    statistics, known = tokenizer.statistics, None
    if given:
        with torch.no_grad():
            latents = 0.5 * statistics.normalize(tokenizer.encode(video))
        assert latents.shape[2] == 1 + (given - 1) // 8
        known = model.given(latents, 4, generator=generator)
    denoise = model.denoiser(text, negative, guidance=2.5, fps=10, given=known)
    data = res_2ab(denoise, x, karras(3))
    # Several threads may round otherwise from one pass to the next, by where tensors lie in memory.
    torch.testing.assert_close(made.latents, data, rtol=0, atol=2e-6)
    with torch.no_grad():
        decoded = tokenizer.decode(statistics.denormalize(made.latents / 0.5)).clamp(-1, 1)
    assert made.video.shape == (1, 3, frames, *size)
    torch.testing.assert_close(made.video[:, :, given:], decoded[:, :, given:], rtol=0, atol=2e-6)
    if given:
        assert torch.equal(made.video[:, :, :given], video)
        assert not torch.equal(decoded[:, :, :given], video)


def test_the_last_frames_of_a_video_are_given(pipeline: Video2World) -> None:
    video = clip(30)
    for asked, given in ((None, 9), (1, 1), (9, 9)):
        made = pipeline(video=video, condition_frames=asked)
        assert torch.equal(made.video[:, :, :given], video[:, :, -given:])
        assert made.metadata["condition_frames"] == given
    assert pipeline(video=video[:, :, :5]).metadata["condition_frames"] == 1
    longer = pipeline(video=video, condition_frames=17, frames=33)
    assert torch.equal(longer.video[:, :, :17], video[:, :, -17:])


def test_a_model_can_be_guided_by_frames_unless_told_otherwise(
    pipeline: Video2World, monkeypatch: pytest.MonkeyPatch
) -> None:
    video, usual = clip(9), pipeline.world.defaults
    told = pipeline(video=video, guidance=2.0, guide_frames=True)
    plain = pipeline(video=video)
    monkeypatch.setattr(pipeline.world, "defaults", replace(usual, guidance=2.0, guide_frames=True))
    assert_same(pipeline(video=video), told)
    assert_same(pipeline(video=video, guide_frames=False), plain)
    assert not torch.equal(told.latents, plain.latents)


def test_an_image_is_one_frame(pipeline: Video2World) -> None:
    picture = clip(1)
    assert_same(pipeline(image=picture[:, :, 0], seeds=3), pipeline(video=picture, seeds=3))


def test_other_sizes_are_resized_whatever_their_aspect(pipeline: Video2World) -> None:
    ramp = torch.linspace(-1, 1, 64).expand(1, 3, 1, 40, 64)
    video = pipeline(video=ramp, steps=1).video[0, 0, 0]
    assert video.shape == (32, 48)
    torch.testing.assert_close(video[5], torch.linspace(-1, 1, 48), atol=0.02, rtol=0)
    torch.testing.assert_close(video[0], video[-1], atol=1e-5, rtol=0)


def test_each_clip_is_what_it_is_alone(pipeline: Video2World) -> None:
    videos, prompts, seeds = clip(9, batch=2), ["a ball rolls", "it stops"], [5, 6]
    both = pipeline(prompts, video=videos, seeds=seeds)
    assert len(both.video) == 2
    for row in range(2):
        alone = pipeline(prompts[row], video=videos[row : row + 1], seeds=seeds[row])
        assert torch.equal(both.video[row : row + 1], alone.video)
        assert torch.equal(both.latents[row : row + 1], alone.latents)
        assert both.metadata["clips"][row]["seed"] == seeds[row]
        assert both.metadata["clips"][row]["prompt"] == prompts[row]
    several = pipeline("it stops", video=videos[1:], seeds=[4, 6, 5])
    assert torch.equal(several.video[1:2], both.video[1:])
    assert not torch.equal(several.latents[:1], several.latents[1:2])


def test_prompts_seeds_and_videos_differ_in_what_they_make(pipeline: Video2World) -> None:
    video = clip(1)
    made = [
        pipeline(video=video),
        pipeline(video=clip(1)),
        pipeline(video=video, seeds=1),
        pipeline("it falls", video=video),
        pipeline("it falls", video=video, negative=""),
        pipeline("it falls", video=video, guidance=3),
        pipeline("it falls", video=video, guide_frames=True),
        pipeline(video=video, augment=0.3),
        pipeline(video=video, fps=30),
        pipeline(video=video, steps=3),
    ]
    for index, one in enumerate(made):
        for other in made[:index]:
            assert not torch.equal(one.latents, other.latents)


def test_no_prompt_is_not_guided_and_costs_half(pipeline: Video2World, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[int] = []
    forward = pipeline.world.net.forward
    monkeypatch.setattr(
        pipeline.world.net,
        "forward",
        lambda *given, **named: (batches.append(len(given[0]) * named.get("copies", 1)), forward(*given, **named))[1],
    )
    video = clip(1)
    plain = pipeline(video=video)
    assert batches == [1, 1]
    assert plain.metadata["clips"][0] | {"guided_by_text": False, "prompt": None} == plain.metadata["clips"][0]
    pipeline("it falls", video=video)
    assert batches[2:] == [2, 2]
    pipeline("it falls", video=video, guidance=0)
    assert batches[4:] == [1, 1]


@pytest.mark.parametrize("guide_frames", [False, True])
def test_prompts_in_turn_make_the_same_clip(guide_frames: bool, world: Maker, codec: Maker) -> None:
    video, guidance = clip(9), Guidance(weight=2, low=0.01, high=50)
    arguments = {"video": video, "guidance": guidance, "guide_frames": guide_frames, "steps": 4}
    together = Video2World(world(), codec=codec())("it falls", **arguments)
    in_turn = Video2World(world(), codec=codec(), placement=Placement(in_turn=True))("it falls", **arguments)
    torch.testing.assert_close(in_turn.latents, together.latents, atol=1e-5, rtol=0)


def test_a_callback_sees_every_step_and_may_end_the_run(pipeline: Video2World) -> None:
    steps: list[Step] = []

    def until_second_clip(step: Step) -> bool:
        steps.append(step)
        return len(steps) == 4

    whole: list[Generation] = []
    video = clip(1)
    made = pipeline(video=video, seeds=[1, 2, 3], steps=3, callback=until_second_clip, on_clip=whole.append)
    assert [step.done for step in steps] == [1, 2, 3, 1]
    assert made.cancelled
    assert made.metadata["cancelled"]
    assert_same(made, whole[0])
    assert_same(made, pipeline(video=video, seeds=1, steps=3))
    none = pipeline(video=video, callback=lambda step: True)
    assert none.cancelled
    assert none.video.shape == (0, 3, 17, 32, 48)
    assert none.metadata["clips"] == []
    assert not pipeline(video=video).cancelled


def test_levels_are_prepared_once_each_and_few_are_kept(world: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    model, asked, kept = world(), [], []
    prepare = model.net.prepare_level
    monkeypatch.setattr(
        model.net, "prepare_level", lambda *given, **named: (asked.append(given), prepare(*given, **named))[1]
    )
    text = torch.ones(1, 16, 32)
    denoise = model.denoiser(text, guidance=0, fps=12)
    sigmas = karras(70)
    heun(denoise, torch.randn(1, 4, 2, 4, 6), sigmas, callback=lambda step: kept.append(len(denoise._levels)))
    assert len(asked) == int((sigmas > 0).sum())
    assert max(kept) == 64


@pytest.mark.parametrize("sampler", [euler, heun, unipc])
def test_the_sampler_is_one_s_own(pipeline: Video2World, sampler: Callable) -> None:
    video = clip(1)
    made = pipeline(video=video, sampler=sampler, steps=4)
    assert made.metadata["sampler"] == sampler.__name__
    assert not torch.equal(made.latents, pipeline(video=video, steps=4).latents)


def test_flows_are_sampled_as_they_were_released(world: Maker, codec: Maker) -> None:
    flow = world(prediction="rectified", position="none", rope_fps=False)
    made = Video2World(flow, codec=codec())(video=clip(9))
    assert made.metadata["sampler"] == "unipc"
    assert made.video.isfinite().all()


def test_views_are_coded_each_for_itself(world: Maker, codec: Maker) -> None:
    tokenizer, video = codec(), clip(3 * 9)
    pipeline = Video2World(world(views=3, position="sincos"), codec=tokenizer)
    made = pipeline(["ahead", "left", "right"], video=video, frames=17, condition_frames=9)
    assert made.video.shape == (1, 3, 3 * 17, 32, 48)
    assert made.latents.shape == (1, 4, 3 * 3, 4, 6)
    for view in range(3):
        assert torch.equal(made.video[:, :, 17 * view : 17 * view + 9], video[:, :, 9 * view : 9 * view + 9])
        with torch.no_grad():
            known = 0.5 * tokenizer.statistics.normalize(tokenizer.encode(video[:, :, 9 * view : 9 * view + 9]))
        torch.testing.assert_close(made.latents[:, :, 3 * view : 3 * view + 2], known, atol=1e-5, rtol=0)
    assert made.metadata["clips"][0]["prompt"] == ["ahead", "left", "right"]
    same = pipeline(["ahead"] * 3, video=video, frames=17)
    assert_same(same, pipeline("ahead", video=video, frames=17))
    assert not torch.equal(same.latents, made.latents)
    two = pipeline("ahead", video=video[:, :, :18], conditions=Conditions(views=torch.tensor([[0, 2]])))
    assert two.video.shape[2] == 2 * 17


def test_conditions_reach_the_network_each_its_clip(world: Maker, codec: Maker) -> None:
    pipeline, video, told = Video2World(world(action_numbers=7), codec=codec()), clip(9), torch.randn(2, 7)
    both = pipeline(video=video, conditions=Conditions(action=told))
    assert len(both.video) == 2
    for row in range(2):
        alone = pipeline(video=video, conditions=Conditions(action=told[row : row + 1]))
        assert torch.equal(both.latents[row : row + 1], alone.latents)
    assert not torch.equal(both.latents[:1], both.latents[1:])


def test_a_loop_over_chunks_gives_each_the_end_of_the_one_before(world: Maker, codec: Maker) -> None:
    pipeline, video = Video2World(world(), codec=codec()), clip(9)
    request = pipeline.request(frames=17)
    texts = pipeline.texts("it falls")
    given = pipeline.given_frames(request, video)
    first = pipeline.clip(texts, request, seed=4, given=given)
    assert torch.equal(first.video, pipeline("it falls", video=video, seeds=4).video)
    with pytest.raises(InputError, match="condition_frames is 8: give 1"):
        pipeline.clip(texts, request, given=first.video[:, :, -8:])
    with pytest.raises(InputError, match="give as many of each of 1 views, of 32x48"):
        pipeline.clip(texts, request, given=first.video[:, :, -9:, :16])
    second = pipeline.clip(texts, request, seed=5, given=first.video[:, :, -9:])
    assert torch.equal(second.video[:, :, :9], first.video[:, :, -9:])
    assert_same(
        pipeline("it falls", video=first.video, seeds=5),
        Generation(video=second.video, latents=second.latents, fps=12, metadata={}),
    )


def test_a_picture_is_a_clip_of_one_frame(world: Maker, codec: Maker) -> None:
    made = Text2World(world(frames=False), codec=codec())("a ball", frames=1)
    assert made.video.shape == (1, 3, 1, 32, 48)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"frames": 20}, "frames is 20: give 1 \\+ a multiple of 8, such as 17 or 25"),
        ({"frames": 0}, "frames is 0: .* such as 1 or 9"),
        ({"frames": 401}, "at most 16 latent frames"),
        ({"height": 40}, "height is 40: give a multiple of 16, at most 256"),
        ({"width": 0}, "width is 0"),
        ({"steps": 0}, "steps is 0: give a whole number from 1 to 10000"),
        ({"fps": -1}, "fps is -1"),
        ({"guidance": float("nan")}, "guidance is nan"),
        ({"seeds": -1}, "seed is -1: give a whole number from 0"),
        ({"seeds": [1, 1 << 63]}, "seed is 9223372036854775808"),
        ({"seeds": []}, "no seed"),
        ({"augment": -0.5}, "augment is -0.5: give a noise level from 0 up"),
        ({"condition_frames": 5}, "condition_frames is 5: give 1 \\+ a multiple of 8, such as 1 or 9"),
        ({"condition_frames": 25}, "condition_frames is 25, and the video has 20"),
        ({"condition_frames": 17}, "frames is 17, and 17 of them are given"),
        ({"video": None}, "give a video or an image, and not both"),
        ({"video": torch.full((1, 3, 9, 32, 48), 255.0)}, "values from 255 to 255: bring them to \\[-1, 1\\]"),
        ({"video": torch.full((1, 3, 9, 32, 48), torch.nan)}, "values from nan"),
        ({"video": torch.zeros(1, 3, 0, 32, 48)}, "give frames"),
        ({"seeds": [1, 2], "prompt": ["a", "b", "c"]}, "3 prompts, 2 seeds, 1 videos: give one or 3"),
        ({"embeddings": torch.zeros(3, 31)}, "width 31: this network takes 32"),
        (
            {"conditions": Conditions(camera=torch.zeros(1, 6, 3, 4, 6))},
            "camera is given, and this network has no place",
        ),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(pipeline: Video2World, arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        pipeline(**{"video": torch.zeros(1, 3, 20, 32, 48)} | arguments)
    assert "\n" not in str(error.value)


def test_parts_that_do_not_fit_are_said_in_one_line(world: Maker, codec: Maker) -> None:
    with pytest.raises(InputError, match="takes text alone: use a video2world model"):
        Video2World(world(frames=False), codec=codec())
    with pytest.raises(InputError, match="the tokenizer has 16 channels, and the network takes 4"):
        Video2World(world(), codec=codec("nano-cv8x8x8"))
    with pytest.raises(InputError, match="the tokenizer is discrete"):
        Video2World(world(), codec=codec("toy-discrete"))
    with pytest.raises(InputError, match="neither the model nor the tokenizer says what mean"):
        Video2World(world(), codec=codec(statistics=False))
    with pytest.raises(InputError, match="does not name its tokenizer: give a codec"):
        Video2World(world())
    with pytest.raises(InputError, match="no such file or folder|there is no file"):
        Video2World("nowhere.safetensors", codec=codec())
    with pytest.raises(InputError, match="the prompt is 'it falls', and this model has no text encoder"):
        Text2World(world(encoder=False), codec=codec())("it falls")
    with pytest.raises(InputError, match="the negative prompt is 'bad', and this model has no text .* or no neg"):
        Text2World(world(encoder=False), codec=codec())(embeddings=torch.ones(3, 32), negative="bad")
    with pytest.raises(InputError, match="makes vectors of width 32: this network takes 36"):
        Text2World(world(text_width=36, encoder=False), codec=codec(), text_encoder=world().text_encoder)
