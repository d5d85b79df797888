"""Costs told beforehand: operations as torch counts them, bytes as a real run holds them, and the published figures."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils.flop_counter import FlopCounterMode

from cosmos_diffusion import PRESETS, DiTConfig
from cosmos_diffusion.live_bytes import peak_bytes
from cosmos_diffusion.memory import (
    CODEC_BYTES,
    as_json,
    as_table,
    flops,
    memory,
    options,
    parameters_of,
    training_flops,
    training_memory,
)
from cosmos_diffusion.parallel import context_parallel
from cosmos_tokenizer import PRESETS as TOKENIZERS
from cosmos_tokenizer import CausalTokenizer, InputError

TOY, VIDEO = PRESETS["toy"], PRESETS["toy-video"]


@pytest.mark.parametrize(("name", "peta"), [("7b-text2world", 2.21), ("14b-text2world", 3.85)])
def test_a_released_net_takes_the_published_operations(name: str, peta: float) -> None:
    assert flops(PRESETS[name], 121, 704, 1280) / 1e15 == pytest.approx(peta, abs=0.005)


@pytest.mark.parametrize("prepared", [False, True])
@pytest.mark.parametrize(
    "config",
    [VIDEO, replace(VIDEO, views=3, position="sincos"), replace(VIDEO, text_projection=40, position="none")],
    ids=["video", "views", "projected text"],
)
@torch.no_grad()
def test_operations_are_those_that_torch_counts(random_net: Callable, config: DiTConfig, prepared: bool) -> None:
    net, views = random_net(config), config.views or 1
    x, c_noise = torch.randn(2, 16, views * 2, 4, 6), torch.randn(2)
    text = torch.randn(2, views * 7, config.text_projection or config.text_width)
    level, context = net.prepare_level(c_noise), net.prepare_text(text, views=views)
    # The counter does not know the CPU's fused attention; written out, it is two products, of as many operations.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        net(x, level, context, fps=24) if prepared else net(x, c_noise, text, fps=24)
    # Of a view's embedding of frame repeats nothing runs here.
    assert flops(config, 9, 32, 48, 7, batch=2, prepared=prepared) == counter.get_total_flops()


@pytest.mark.parametrize("frozen", [False, True])
def test_operations_of_training_are_those_that_torch_counts(random_net: Callable, frozen: bool) -> None:
    net = random_net(replace(VIDEO, mlp_ratio=3.0)).requires_grad_(not frozen)
    x, c_noise, text = torch.randn(2, 16, 3, 8, 12), torch.randn(2), torch.randn(2, 16, 32)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        # With frozen weights the clip alone has a gradient, which passes through what adapters' gradients pass through.
        net(x.requires_grad_(frozen), c_noise, text, fps=24).square().mean().backward()
    told = training_flops(net.config, 17, 64, 96, batch=2, frozen=frozen)
    # Neither the clip nor, with frozen weights, text and level have gradients, which takes a little less.
    assert 0.95 * told < counter.get_total_flops() <= told


def test_live_bytes_are_counted_from_birth_to_death() -> None:
    given = torch.randn(1000)

    def call() -> torch.Tensor:
        one = given * 2
        other = one[:500] + 1  # beside it: 6000 bytes
        del one
        other.mul_(3)
        return torch.cat([other, given[:10]])

    assert peak_bytes(call) == 6000
    assert peak_bytes(lambda: given.view(10, 100)[3:]) == 0


@torch.no_grad()
def test_activations_are_those_of_a_real_run(random_net: Callable) -> None:
    net = random_net(replace(VIDEO, blocks=4)).to(torch.bfloat16)
    x, text = torch.randn(2, 16, 3, 8, 12, dtype=torch.bfloat16), torch.randn(2, 16, 32)
    level, context = net.prepare_level(torch.randn(2)), net.prepare_text(text)
    real = peak_bytes(lambda: net(x, level, context, fps=24))
    assert memory(VIDEO, 17, 64, 96).activations == real
    assert memory(replace(VIDEO, blocks=4), 17, 64, 96).text == sum(
        value.numel() * 2 for block in context.blocks for value in (block.k_BSNH, block.v_BSNH)
    )


def test_options_save_what_they_say() -> None:
    config = replace(VIDEO, blocks=8)
    full, half, small = (memory(config, 17, 64, 96, weights=form) for form in ("float32", "bfloat16", "int8"))
    assert half.weights * 2 == full.weights
    assert small.weights < 0.65 * half.weights
    paged = memory(config, 17, 64, 96, ahead=1)
    assert paged.weights < 0.5 * half.weights
    assert paged.activations == half.activations
    assert paged.host > half.weights - paged.weights
    turns = memory(config, 17, 64, 96, together=False)
    assert turns.activations < 0.6 * half.activations
    assert memory(config, 17, 64, 96, guidance=False).text * 2 == half.text


def test_processes_share_weights_prompts_and_frames() -> None:
    config = replace(VIDEO, blocks=12)
    alone, two, four = (memory(config, 57, 64, 96, processes=count) for count in (1, 2, 4))
    turns = memory(config, 57, 64, 96, together=False)
    assert two.text == four.text == alone.text / 2
    assert two.activations == turns.activations
    assert 0.5 * turns.activations < four.activations < 0.9 * turns.activations
    outside = 2 * parameters_of(config) - 12 * (block := 2 * (parameters_of(config) - parameters_of(VIDEO)) // 10)
    assert two.weights == outside + 6 * block + 2 * block
    assert four.weights == outside + 3 * block + 2 * block
    with pytest.raises(InputError, match="32 processes are too many for 8 latent frames"):
        memory(config, 57, 64, 96, processes=32)


@pytest.fixture
def two_processes() -> Iterator[None]:
    """Process 0 of two of which the other does nothing: what it would send is not there, and its size is."""
    dist.init_process_group("fake", rank=0, world_size=2, store=FakeStore())
    yield
    dist.destroy_process_group()


@torch.no_grad()
def test_a_process_holds_what_it_exchanges(random_net: Callable, two_processes: None) -> None:
    net = random_net(replace(VIDEO, width=96, heads=4, adaln_rank=4)).to(torch.bfloat16)
    x, text = torch.randn(1, 16, 8, 16, 24, dtype=torch.bfloat16), torch.randn(1, 16, 32)
    level, context = net.prepare_level(torch.randn(1)), net.prepare_text(text)
    with context_parallel(net, dist.group.WORLD, "ulysses"):
        real = peak_bytes(lambda: net(x, level, context, fps=24))
    assert memory(net.config, 57, 128, 192, processes=4).activations == pytest.approx(real, rel=0.1)


def test_the_codec_has_as_many_bytes_as_its_preset() -> None:
    with torch.device("meta"):
        codec = CausalTokenizer(TOKENIZERS["cv8x8x8-720p"])
    assert sum(value.numel() * 2 for value in codec.parameters()) == CODEC_BYTES


def test_adapters_are_trained_in_the_weights_place() -> None:
    full, low = (training_memory(VIDEO, 17, 64, 96, adapters=count) for count in (None, 100))
    assert (low.gradients, low.optimizer) == (200, 800)
    assert low.weights == full.weights / 5 + 1000
    assert low.activations == full.activations


def test_training_takes_the_published_memory() -> None:
    found = training_memory(PRESETS["14b-text2world"], 121, 704, 1280)
    assert found.activations / 1e9 == pytest.approx(311, abs=1)
    state = found.weights + found.gradients + found.optimizer
    assert state == 20 * 14_267_149_312  # 285 GB; the paper rounds the net to 14 billion and says 280


def test_a_table_has_a_line_an_option() -> None:
    rows = options(VIDEO, 17, 64, 96)
    lines = as_table(rows).splitlines()
    assert len(lines) == len(rows) + 1
    assert len({len(line) for line in lines}) == 1
    assert lines[0].split() == ["option", "weights", "text", "activations", "peak", "host"]
    assert "bfloat16, FSDP over 4" in dict(rows)
    assert "bfloat16, FSDP over 8" not in dict(rows)  # of three latent frames
    for row in as_json(rows):
        parts = row["weights_gb"] + row["text_gb"] + row["activations_gb"]
        assert row["peak_gb"] == pytest.approx(parts)


@pytest.mark.parametrize(
    ("size", "says"),
    [
        ((16, 64, 64), "frames is 16: give 1 . a multiple of 8, such as 9 or 17"),
        ((17, 72, 64), "height is 72: give a multiple of 16, at most 256"),
        ((17, 64, 512), "width is 512: give a multiple of 16, at most 256"),
        ((1025, 64, 64), "frames is 1025: the network takes at most 16 latent frames"),
    ],
)
def test_a_clip_that_does_not_fit_is_named(size: tuple[int, int, int], says: str) -> None:
    with pytest.raises(InputError, match=says):
        flops(TOY, *size)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@torch.no_grad()
def test_a_gpu_takes_no_more_than_was_told(random_net: Callable) -> None:
    config = replace(VIDEO, blocks=4, width=1024, heads=8, grid=(16, 64, 64))
    net = random_net(config).to("cuda", torch.bfloat16)
    x, text = torch.randn(2, 16, 8, 64, 64, dtype=torch.bfloat16).cuda(), torch.randn(2, 16, 32).cuda()
    level, context = net.prepare_level(torch.randn(2).cuda()), net.prepare_text(text)
    net(x, level, context, fps=24)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    net(x, level, context, fps=24)
    measured = torch.cuda.max_memory_allocated() - before
    told = memory(config, 57, 512, 512).activations
    assert 0.5 * told < measured < 1.1 * told
