"""The world model: whole sampling loops equal to diffusers' pipelines', and all that is prepared changes nothing."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from diffusers import EDMEulerScheduler
from torch import Tensor
from torch._ops import OpOverload
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from cosmos_diffusion import PRESETS, DiTConfig
from cosmos_diffusion.channels import Conditions
from cosmos_diffusion.diffusers_layout import name_there
from cosmos_diffusion.guidance import Guidance
from cosmos_diffusion.samplers import euler, res_2ab
from cosmos_diffusion.sigmas import karras, schedule
from cosmos_diffusion.world_model import WorldModel
from cosmos_tokenizer import InputError

VIDEO = PRESETS["toy-video"]
FLOW = replace(VIDEO, prediction="flow", position="none", rope_fps=False, rope_ratio=(1.0, 3.0, 3.0))
RECTIFIED = replace(FLOW, prediction="rectified")
VIEWS = replace(VIDEO, views=2, position="sincos")
ACTION = replace(VIDEO, action_numbers=7)
CONFIGS = {"edm": VIDEO, "flow": FLOW, "rectified": RECTIFIED, "views": VIEWS, "action": ACTION}


def world_like(peer: torch.nn.Module, config: DiTConfig) -> WorldModel:
    world = WorldModel(config)
    state = peer.state_dict()
    world.net.load_state_dict({name: state[name_there(name)] for name in world.net.state_dict()})
    return world


@pytest.fixture
def random_world(randomised: Callable) -> Callable[[DiTConfig], WorldModel]:
    return lambda config: randomised(WorldModel(config))


def texts(config: DiTConfig, batch: int) -> tuple[Tensor, Tensor]:
    length = 4 * max(1, config.views)
    text, negative = torch.randn(2, batch, length, config.text_width)
    return text, negative


def given_and_conditions(world: WorldModel, batch: int, frames: int) -> dict:
    views = max(1, world.config.views)
    told = {"padding_mask": torch.rand(1, 1, 16, 16).round()}
    if world.config.action_numbers:
        told["action"] = torch.randn(batch, 7)
    known = torch.randn(batch, 16, 2 * views, 4, 6)
    return {"given": world.given(known, frames), "conditions": Conditions(**told)}


@pytest.mark.parametrize("weight", [0.0, 7.0])
def test_video2world_equals_diffusers_loop(oracle: Callable, weight: float) -> None:
    """With the noise of given frames the same at every step, as in the original; diffusers draws it anew."""
    peer, frames, augment, fps = oracle(VIDEO), 4, 0.001, 30
    world = world_like(peer, VIDEO)
    text, negative = texts(VIDEO, 2)
    known = torch.randn(2, 16, 2, 4, 6)
    given = world.given(known, frames, augment=augment, generator=torch.Generator().manual_seed(3))
    noise = torch.randn(2, 16, frames, 4, 6, generator=torch.Generator().manual_seed(3))
    scheduler = EDMEulerScheduler(sigma_min=0.002, sigma_max=80, sigma_data=0.5, final_sigmas_type="sigma_min")
    scheduler.set_timesteps(7)
    x = first = torch.randn(2, 16, frames, 4, 6) * scheduler.init_noise_sigma
    indicator = torch.tensor([1.0, 1, 0, 0]).view(1, 1, -1, 1, 1)
    latents = torch.cat([known, torch.zeros(2, 16, 2, 4, 6)], dim=2)
    mask, padding = indicator.expand(2, 1, -1, 4, 6), torch.zeros(1, 1, 32, 48)
    with torch.no_grad():
        for t, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
            ratio = ((sigma**2 + 0.25) / (augment**2 + 0.25)) ** 0.5
            shown = indicator * (latents + augment * noise) * ratio + (1 - indicator) * x
            seen = scheduler.scale_model_input(shown, t)
            found = []
            for prompt in (text, negative):
                raw = peer(
                    seen,
                    t.expand(2).float(),
                    prompt,
                    fps=fps,
                    condition_mask=mask,
                    padding_mask=padding,
                    return_dict=False,
                )[0]
                x0 = scheduler.precondition_outputs(x, raw, sigma)
                found.append(indicator * latents + (1 - indicator) * x0)
            x0 = found[0] + weight * (found[0] - found[1])
            x = scheduler.step(x0, t, x, return_dict=False, pred_original_sample=x0)[0]
    denoise = world.denoiser(text, negative, guidance=weight, fps=fps, given=given)
    ours = euler(denoise, first, karras(6, zero=False))
    torch.testing.assert_close(ours, x, atol=2e-4, rtol=2e-4)
    torch.testing.assert_close(ours[:, :, :2], known, atol=0.02, rtol=0)  # noise of 0.002 is left


def test_predict2_equals_diffusers_loop(oracle: Callable) -> None:
    peer, frames, weight = oracle(FLOW), 4, 7.0
    world = world_like(peer, FLOW)
    text, negative = texts(FLOW, 2)
    known = torch.randn(2, 16, 1, 4, 6)
    indicator = torch.tensor([1.0, 0, 0, 0]).view(1, 1, -1, 1, 1)
    latents = torch.cat([known, torch.zeros(2, 16, 3, 4, 6)], dim=2)
    mask, padding = indicator.expand(2, 1, -1, 4, 6), torch.zeros(1, 1, 32, 48)
    sigmas = karras(6)
    x = first = sigmas[0].item() * torch.randn(2, 16, frames, 4, 6)
    with torch.no_grad():
        for sigma, target in zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True):
            t, told = sigma / (1 + sigma), 1e-4 / (1 + 1e-4)
            times = (indicator * told + (1 - indicator) * t).expand(2, -1, -1, -1, -1)
            seen = indicator * latents + (1 - indicator) * (1 - t) * x
            found = []
            for prompt in (text, negative):
                raw = peer(seen, times, prompt, condition_mask=mask, padding_mask=padding, return_dict=False)[0]
                found.append(indicator * latents + (1 - indicator) * ((1 - t) * x - t * raw))
            x0 = found[0] + weight * (found[0] - found[1])
            x = x + (target - sigma) * (x - x0) / sigma
    denoise = world.denoiser(text, negative, guidance=weight, fps=None, given=world.given(known, frames))
    ours = euler(denoise, first, sigmas)
    torch.testing.assert_close(ours, x, atol=2e-4, rtol=2e-4)
    assert torch.equal(ours[:, :, :1], known)


@pytest.mark.parametrize("guide_frames", [False, True])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_prepared_denoiser_equals_two_predictions(random_world: Callable, name: str, guide_frames: bool) -> None:
    world = random_world(CONFIGS[name])
    text, negative = texts(world.config, 2)
    told = given_and_conditions(world, 2, 6)
    x = torch.randn(2, 16, 6, 4, 6)
    denoise = world.denoiser(text, negative, guidance=3.0, fps=24, guide_frames=guide_frames, **told)
    for sigma in (20.0, 0.3, 20.0):
        with torch.no_grad():
            cond = world.denoise(x, sigma, text, fps=24, **told)
            without = told | ({"given": told["given"]._replace(mask=0 * told["given"].mask)} if guide_frames else {})
            uncond = world.denoise(x, sigma, negative, fps=24, **without)
        expected = told["given"].kept(cond + 3 * (cond - uncond))
        torch.testing.assert_close(denoise(x, sigma), expected, atol=2e-4, rtol=2e-4)
    assert (cond - uncond).abs().max() > 1e-3


@pytest.mark.parametrize("name", CONFIGS)
def test_without_guidance_a_denoiser_is_one_prediction(random_world: Callable, name: str) -> None:
    world = random_world(CONFIGS[name])
    text, _ = texts(world.config, 2)
    told = given_and_conditions(world, 2, 6)
    x = torch.randn(2, 16, 6, 4, 6)
    for guidance in (0, Guidance(weight=1, convention="between"), Guidance(weight=5, low=2.0)):
        found = world.denoiser(text, guidance=guidance, fps=24, **told)(x, 1.3)
        with torch.no_grad():
            expected = world.denoise(x, 1.3, text, fps=24, **told)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_a_level_for_each_clip_equals_clips_one_by_one(random_world: Callable) -> None:
    world = random_world(VIDEO)
    text, _ = texts(VIDEO, 3)
    x, sigma = torch.randn(3, 16, 2, 4, 6), torch.tensor([0.1, 3.0, 50.0])
    with torch.no_grad():
        together = world.denoise(x, sigma, text, fps=10)
        for clip in range(3):
            one = slice(clip, clip + 1)
            alone = world.denoise(x[one], sigma[clip].item(), text[one], fps=10)
            torch.testing.assert_close(together[one], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["edm", "views", "projected"])
@pytest.mark.parametrize("used", [(0, 0), (2, 0), (3, 1), (4, 4)])
def test_padding_that_counts_as_one_vector_changes_nothing(
    random_world: Callable, name: str, used: tuple[int, int]
) -> None:
    config = replace(RECTIFIED, text_projection=40) if name == "projected" else CONFIGS[name]
    world = random_world(config)
    views = max(1, config.views)
    text, negative = torch.randn(2, 1, 7 * views, config.text_projection or config.text_width)
    for some, length in zip((text, negative), used, strict=True):
        some.unflatten(1, (views, -1))[:, :, length:] = 0
    x = torch.randn(1, 16, 2, 4, 6)
    denoise = world.denoiser(text, negative, guidance=3, fps=24)
    with torch.no_grad():
        cond, uncond = (world.denoise(x, 0.7, some, fps=24) for some in (text, negative))
    torch.testing.assert_close(denoise(x, 0.7), cond + 3 * (cond - uncond), atol=5e-5, rtol=5e-5)
    keys, _, bias = denoise._with.text.blocks[0]
    assert keys.shape[1] == max(used) + 1
    assert bias is not None
    half = world.to(torch.bfloat16).denoiser(text, negative, guidance=3, fps=24)
    assert half._with.text.blocks[0].k_BSNH.shape[1] == 7


class Halves:
    """Two processes in one."""

    halves = True

    def both(self, evaluate: Callable, positive: object, negative: object) -> tuple[Tensor, Tensor]:
        return evaluate(positive), evaluate(negative)

    def largest(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize("guide_frames", [False, True])
@pytest.mark.parametrize("name", CONFIGS)
def test_predictions_apart_are_those_of_one_batch(random_world: Callable, name: str, guide_frames: bool) -> None:
    world = random_world(CONFIGS[name])
    text, negative = texts(world.config, 2)
    told = given_and_conditions(world, 2, 6) | {"guide_frames": guide_frames, "guidance": 3, "fps": 24}
    x = torch.randn(2, 16, 6, 4, 6)
    wanted = world.denoiser(text, negative, **told)(x, 0.7)
    batches = []
    world.net.register_forward_hook(lambda *given: batches.append(len(given[-1])))
    for apart in ({"team": Halves()}, {"together": False}):
        torch.testing.assert_close(
            world.denoiser(text, negative, **told, **apart)(x, 0.7), wanted, atol=1e-5, rtol=1e-5
        )
    assert batches == [2, 2, 2, 2]


def test_no_negative_text_is_zeros(random_world: Callable) -> None:
    world = random_world(VIDEO)
    text, _ = texts(VIDEO, 1)
    x = torch.randn(1, 16, 2, 4, 6)
    one, other = (world.denoiser(text, negative, fps=24)(x, 1.0) for negative in (None, torch.zeros_like(text)))
    assert torch.equal(one, other)


def test_text_and_levels_are_prepared_once(random_world: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    world = random_world(VIDEO)
    calls: list[str] = []
    for name in ("prepare_text", "prepare_level", "forward"):
        work = getattr(world.net, name)

        def counted(*args: object, _name: str = name, _work: Callable = work, **options: object) -> object:
            calls.append(_name)
            return _work(*args, **options)

        monkeypatch.setattr(world.net, name, counted)
    text, negative = texts(VIDEO, 1)
    denoise = world.denoiser(text, negative, fps=24)
    for _ in range(2):
        res_2ab(denoise, torch.randn(1, 16, 2, 4, 6), karras(5))
    assert [calls.count(name) for name in ("prepare_text", "prepare_level", "forward")] == [1, 5, 10]


class NoWaiting(TorchDispatchMode):
    """Fails where Python asks for a tensor's value, for which it would wait for the device."""

    def __torch_dispatch__(
        self, func: OpOverload, types: tuple, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        assert func.overloadpacket not in ASK, f"{func} waits for the device"
        return func(*args, **(kwargs or {}))


class NoReading(TorchFunctionMode):
    """The same of what torch does beneath its operators, on the CPU without a trace."""

    def __torch_function__(self, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None) -> object:
        assert func not in (Tensor.tolist, Tensor.cpu, Tensor.numpy, Tensor.item), f"{func} waits for the device"
        return func(*args, **(kwargs or {}))


ASK = {getattr(torch.ops.aten, name) for name in ("_local_scalar_dense", "is_nonzero", "nonzero", "equal")}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_loop_never_asks_the_device_for_a_value(random_world: Callable, name: str) -> None:
    world = random_world(CONFIGS[name])
    text, negative = texts(world.config, 2)
    told = given_and_conditions(world, 2, 6)
    x = torch.randn(2, 16, 6, 4, 6)
    denoise = world.denoiser(text, negative, guidance=Guidance(weight=3, low=1.0), fps=24, **told)
    sigmas = schedule(world.config.prediction, 4).tolist()
    with NoWaiting(), NoReading():
        for wait in (lambda: bool(x.sum() > 0), x.tolist, x.cpu):
            with pytest.raises(AssertionError, match="waits"):
                wait()
        res_2ab(denoise, x, sigmas)


@pytest.mark.parametrize("name", ["edm", "rectified"])
def test_the_same_seed_gives_the_same_bits(random_world: Callable, name: str) -> None:
    world = random_world(CONFIGS[name])
    text, negative = texts(world.config, 1)
    known = torch.randn(1, 16, max(1, world.config.views), 4, 6)

    def sample(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        given = world.given(known, 4, generator=generator)
        x = 80 * torch.randn(1, 16, 4, 4, 6, generator=generator)
        return euler(world.denoiser(text, negative, fps=24, given=given), x, karras(2))

    assert torch.equal(sample(1), sample(1))
    assert not torch.equal(sample(1), sample(2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_in_half_precision_leave_the_sample_in_its_dtype(random_world: Callable, dtype: torch.dtype) -> None:
    world = random_world(VIDEO)
    text, negative = texts(VIDEO, 1)
    x = torch.randn(1, 16, 2, 4, 6)
    expected = world.denoiser(text, negative, guidance=1, fps=24)(x, 0.8)
    found = world.to(torch.bfloat16).denoiser(text, negative, guidance=1, fps=24)(x.to(dtype), 0.8)
    assert found.dtype == dtype
    assert (found.float() - expected).abs().max() < 0.05 * expected.abs().max()


def test_texts_and_clips_that_do_not_fit_are_named(random_world: Callable) -> None:
    world = random_world(VIDEO)
    text, _ = texts(VIDEO, 2)
    with pytest.raises(InputError, match=r"negative text has shape \(2, 3, 32\)"):
        world.denoiser(text, text[:, :3], fps=24)
    with pytest.raises(InputError, match="3 clips and the text is of 2"):
        world.denoiser(text, fps=24)(torch.zeros(3, 16, 2, 4, 6), 1.0)
    told = partial(world.denoise, torch.zeros(2, 16, 2, 4, 6), 1.0, text, fps=24)
    mask = Conditions(condition_mask=torch.zeros(2, 1, 2, 4, 6))
    with pytest.raises(InputError, match="condition_mask is given beside frames"):
        told(given=world.given(torch.zeros(2, 16, 1, 4, 6), 2), conditions=mask)
