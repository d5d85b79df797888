"""Low-rank adapters: nothing changes at first, they alone learn, merging is exact, and a file brings them elsewhere."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import CosmosTransformer3DModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import cosmos_diffusion
from cosmos_diffusion import PRESETS, DiT, DiTConfig, WorldModel, lora
from cosmos_diffusion.adapted_linear import AdaptedLinear
from cosmos_diffusion.diffusers_layout import name_there
from cosmos_diffusion.lora import LoRAConfig
from cosmos_diffusion.nn import use_float8
from cosmos_diffusion.quantised import FORMS, dequantise, quantise
from cosmos_tokenizer import InputError

VIDEO = replace(PRESETS["toy-video"], blocks=3)
EVERY = LoRAConfig(rank=3, alpha=0.7, targets=lora.TARGETS)
CONFIGS = pytest.mark.parametrize("config", [*lora.PRESETS.values(), EVERY], ids=[*lora.PRESETS, "every layer"])


def outputs(net: DiT, *, prepared: bool = False) -> Tensor:
    """Of the same random inputs each time."""
    draw = torch.Generator().manual_seed(7)
    latents, c_noise = torch.randn(2, 16, 3, 4, 6, generator=draw), torch.randn(2, generator=draw)
    text, mask = torch.randn(2, 9, 32, generator=draw), torch.rand(2, 1, 3, 4, 6, generator=draw).round()
    level, context = (net.prepare_level(c_noise), net.prepare_text(text)) if prepared else (c_noise, text)
    return net(latents, level, context, fps=24, condition_mask=mask)


@torch.no_grad()
def trained(model: nn.Module) -> None:
    """Let no half of any adapter be zero."""
    for parameter in lora.parameters(model).values():
        nn.init.normal_(parameter, std=0.2)


@pytest.fixture
def net(random_net: Callable[[DiTConfig], DiT]) -> DiT:
    return random_net(VIDEO)


@pytest.fixture
def world(randomised: Callable[[nn.Module], nn.Module]) -> WorldModel:
    model = randomised(WorldModel(VIDEO))
    assert isinstance(model, WorldModel)
    return model


def copies(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(state: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return list(state) == list(other) and all(torch.equal(value, other[name]) for name, value in state.items())


def near(found: Tensor, expected: Tensor, share: float) -> bool:
    return bool((found - expected).abs().max() <= share * expected.abs().max())


@CONFIGS
@pytest.mark.parametrize("prepared", [False, True])
def test_outputs_keep_their_bits_when_adapters_are_added(net: DiT, config: LoRAConfig, prepared: bool) -> None:
    with torch.no_grad():
        expected = outputs(net, prepared=prepared)
        lora.add(net, config)
        assert torch.equal(outputs(net, prepared=prepared), expected)


@pytest.mark.parametrize(
    ("preset", "config", "adapted", "count"),
    [
        ("7b-video2world", "predict1", 28 * 4, 28 * 8 * (3 * 8192 + 5120)),
        ("predict2-2b-video2world", "predict2-2b", 28 * 10, 28 * 16 * (6 * 4096 + 2 * 3072 + 2 * 10240)),
        ("predict2-14b-video2world", "predict2-14b", 36 * 10, 36 * 32 * (6 * 10240 + 2 * 6144 + 2 * 25600)),
    ],
)
def test_every_block_of_a_released_network_is_adapted(preset: str, config: str, adapted: int, count: int) -> None:
    with torch.device("meta"):
        net = DiT(PRESETS[preset])
    lora.add(net, lora.PRESETS[config])
    assert len(lora.layers(net)) == adapted
    assert {name.split(".")[1] for name in lora.layers(net)} == {str(index) for index in range(len(net.blocks))}
    assert sum(value.numel() for value in lora.parameters(net).values()) == count
    assert count < 0.03 * sum(value.numel() for value in net.parameters())


@CONFIGS
@pytest.mark.parametrize("prepared", [False, True])
def test_a_layer_acts_as_one_with_the_product_in_its_weight(
    random_net: Callable, config: LoRAConfig, prepared: bool
) -> None:
    net, plain = random_net(VIDEO), DiT(VIDEO).eval()
    plain.load_state_dict(net.state_dict())
    before = outputs(net).detach()
    lora.add(net, config)
    trained(net)
    with torch.no_grad():
        for name, layer in lora.layers(net).items():
            plain.get_submodule(name).weight += (
                config.alpha / config.rank * torch.einsum("or,ri->oi", layer.up, layer.down)
            )
    found = outputs(net, prepared=prepared)
    assert near(found, outputs(plain), 1e-5)
    assert not near(found, before, 0.003)


@CONFIGS
def test_adapters_alone_get_gradients_and_all_of_them_do(world: WorldModel, config: LoRAConfig) -> None:
    lora.add(world, config)
    trained(world)
    outputs(world.net).square().mean().backward()
    found = lora.parameters(world)
    assert {name for name, value in world.named_parameters() if value.requires_grad} == set(found)
    for name, value in world.named_parameters():
        assert (value.grad is not None and bool(value.grad.any())) == (name in found), name


def test_a_step_on_the_adapters_lowers_the_loss_and_leaves_the_base(world: WorldModel) -> None:
    before = copies(world)
    lora.add(world, lora.PRESETS["predict1"])
    target = outputs(world.net).detach() + 0.1
    optimizer = torch.optim.AdamW(lora.parameters(world).values(), lr=1e-2)
    losses = []
    for _ in range(8):
        loss = (outputs(world.net) - target).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    assert same(world.state_dict(), before)


@pytest.mark.parametrize("config", [lora.PRESETS["predict1"], EVERY], ids=["predict1", "every layer"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_unmerging_gives_back_the_very_weights(world: WorldModel, config: LoRAConfig, dtype: torch.dtype) -> None:
    world.to(dtype)
    before = copies(world)
    lora.add(world, config)
    trained(world)
    with torch.no_grad():
        expected = outputs(world.net)
        lora.merge(world)
        merged = copies(world)
        found = outputs(world.net)
        lora.merge(world)
        assert same(world.state_dict(), merged)
        lora.unmerge(world)
        again = outputs(world.net)
    assert near(found, expected, 40 * torch.finfo(dtype).eps)
    changed = {name for name, value in merged.items() if not torch.equal(value, before[name])}
    assert changed == {f"{name}.weight" for name in lora.layers(world)}
    assert same(world.state_dict(), before)
    assert torch.equal(again, expected)


def test_a_merged_network_takes_its_adapters_into_prepared_text_and_levels(net: DiT) -> None:
    lora.add(net, EVERY)
    trained(net)
    with torch.no_grad():
        expected = outputs(net)
        lora.merge(net)
        assert near(outputs(net, prepared=True), expected, 1e-5)


def test_a_network_that_changed_dtype_while_merged_unmerges_to_that(net: DiT) -> None:
    before = {name: value.to(torch.bfloat16) for name, value in net.state_dict().items()}
    lora.add(net, lora.PRESETS["predict1"])
    trained(net)
    lora.merge(net)
    net.to(torch.bfloat16)
    lora.unmerge(net)
    assert same(net.state_dict(), before)


def test_what_is_removed_leaves_the_network_it_was_or_the_merged_one(net: DiT) -> None:
    before, config = copies(net), lora.PRESETS["predict2-2b"]
    with torch.no_grad():
        lora.add(net, config)
        lora.remove(net)
        assert same(net.state_dict(), before)
        assert not lora.layers(net)
        lora.add(net, config)
        trained(net)
        expected = outputs(net)
        lora.merge(net)
        lora.remove(net)
        assert near(outputs(net), expected, 1e-5)
    assert not any(isinstance(part, AdaptedLinear) for part in net.modules())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("first", ["quantise", "add"])
def test_eight_bit_weights_train_adapters_and_are_not_merged(net: DiT, form: Any, first: str) -> None:
    lora.add(net, lora.PRESETS["predict1"])
    if first == "quantise":
        lora.remove(net)
        quantise(net, form)
        lora.add(net, lora.PRESETS["predict1"])
    else:
        quantise(net, form)
    trained(net)
    outputs(net).square().mean().backward()
    assert all(value.grad is not None and value.grad.any() for value in lora.parameters(net).values())
    with pytest.raises(InputError, match=r"blocks\.0\.self_attention\.q: .*eight bits already: merge before"):
        lora.merge(net)
    with torch.no_grad():
        expected = outputs(net)
        dequantise(net)
        assert near(outputs(net), expected, 1e-5)
        lora.merge(net)
        assert near(outputs(net), expected, 1e-5)
        quantise(net, form)
    with pytest.raises(InputError, match="cannot be unmerged"):
        lora.unmerge(net)


@pytest.mark.parametrize("first", ["float8", "add"])
def test_layers_that_multiply_in_eight_bits_take_adapters(random_net: Callable, first: str) -> None:
    net = random_net(VIDEO)
    if first == "float8":
        use_float8(net, backend="torch")
    lora.add(net, lora.PRESETS["predict1"])
    with torch.no_grad():
        full = outputs(net)
        if first == "add":
            use_float8(net, backend="torch")
        at_first = outputs(net)
    assert torch.equal(at_first, full) == (first == "float8")
    trained(net)
    outputs(net).square().mean().backward()
    assert all(value.grad is not None and value.grad.any() for value in lora.parameters(net).values())
    with torch.no_grad():
        expected = outputs(net)
        lora.merge(net)
        assert near(outputs(net), expected, 0.2)


@pytest.mark.filterwarnings("ignore:Mismatch dtype")  # of the norms under autocast
def test_passes_in_half_precision_train_adapters_in_float32(world: WorldModel) -> None:
    world.to(torch.bfloat16)
    lora.add(world, lora.PRESETS["predict1"])
    y = outputs(world.net)
    assert y.dtype == torch.bfloat16
    y.float().square().mean().backward()
    assert all(value.dtype == torch.float32 == value.grad.dtype for value in lora.parameters(world).values())
    with torch.autocast("cpu", torch.bfloat16):
        assert outputs(world.float().net).dtype == torch.bfloat16


def test_a_model_with_adapters_is_saved_and_loaded_as_its_base(world: WorldModel, tmp_path: Path) -> None:
    before = copies(world)
    lora.add(world, EVERY)
    trained(world)
    cosmos_diffusion.save(world, tmp_path / "base.safetensors")
    assert same(cosmos_diffusion.load(tmp_path / "base.safetensors").state_dict(), before)
    lora.merge(world)
    cosmos_diffusion.save(world, tmp_path / "merged.safetensors")
    merged = cosmos_diffusion.load(tmp_path / "merged.safetensors")
    assert same(merged.state_dict(), copies(world))
    with pytest.raises(RuntimeError, match="unmerge before other weights come"):
        world.load_state_dict(before)


@pytest.mark.parametrize("assign", [False, True])
def test_weights_of_the_base_are_loaded_under_adapters(world: WorldModel, assign: bool) -> None:
    lora.add(world, lora.PRESETS["predict1"])
    trained(world)
    adapters = {name: value.clone() for name, value in lora.parameters(world).items()}
    other = {name: torch.randn_like(value) for name, value in world.state_dict().items()}
    assert not world.load_state_dict(other, assign=assign).missing_keys
    assert same(world.state_dict(), other)
    assert same(lora.parameters(world), adapters)
    assert {name for name, value in world.named_parameters() if value.requires_grad} == set(adapters)
    with pytest.raises(RuntimeError, match=r"Missing key.*blocks\.1\.cross_attention\.v"):
        world.load_state_dict({name: value for name, value in other.items() if "1.cross_attention.v" not in name})


@pytest.mark.parametrize("config", [lora.PRESETS["predict2-2b"], EVERY], ids=["predict2-2b", "every layer"])
@pytest.mark.parametrize("merged", [False, True])
def test_a_file_brings_adapters_to_another_network(
    world: WorldModel, config: LoRAConfig, merged: bool, tmp_path: Path
) -> None:
    other = WorldModel(VIDEO)
    other.load_state_dict(world.state_dict())
    lora.add(world, config)
    trained(world)
    expected = outputs(world.net)
    if merged:
        lora.merge(world)
    lora.save(world, tmp_path / "adapter.safetensors")
    assert lora.load(other, tmp_path / "adapter.safetensors") == config
    assert same(lora.parameters(other), lora.parameters(world))
    assert torch.equal(outputs(other.net), expected)
    weights = sum(value.numel() * 4 for value in lora.parameters(world).values())
    assert (tmp_path / "adapter.safetensors").stat().st_size < weights + 300 * len(lora.parameters(world)) + 2000


@CONFIGS
def test_diffusers_transformer_has_a_layer_for_each_of_a_files_keys(
    oracle: Callable[[DiTConfig], CosmosTransformer3DModel], config: LoRAConfig, tmp_path: Path
) -> None:
    theirs, net = oracle(VIDEO), DiT(VIDEO).eval()
    state = theirs.state_dict()
    net.load_state_dict({name: state[name_there(name)] for name in net.state_dict()})
    lora.add(net, config)
    trained(net)
    lora.save(net, tmp_path / "a.safetensors")
    tensors = load_file(tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        said = json.loads(file.metadata()["lora_adapter_metadata"])
    assert all(key.startswith("transformer.") for key in [*tensors, *said])
    downs = {key.removesuffix(".lora_A.weight") for key in tensors if key.endswith(".lora_A.weight")}
    scale = said["transformer.lora_alpha"] / said["transformer.r"]
    ends = tuple("." + target for target in said["transformer.target_modules"])
    adapted = {name for name, part in theirs.named_modules() if name.endswith(ends) and isinstance(part, nn.Linear)}
    assert downs == {f"transformer.{name}" for name in adapted}
    with torch.no_grad():
        for name in adapted:
            halves = (tensors[f"transformer.{name}.lora_{half}.weight"] for half in "BA")
            theirs.get_submodule(name).weight += scale * torch.linalg.multi_dot(list(halves))
        draw = torch.Generator().manual_seed(7)
        latents, c_noise = torch.randn(2, 16, 3, 4, 6, generator=draw), torch.randn(2, generator=draw)
        text, mask = torch.randn(2, 9, 32, generator=draw), torch.rand(2, 1, 3, 4, 6, generator=draw).round()
        padding = torch.zeros(1, 1, 32, 48)
        expected = theirs(latents, c_noise, text, fps=24, condition_mask=mask, padding_mask=padding).sample
        assert near(outputs(net), expected, 1e-5)


def test_a_file_without_prefix_and_metadata_counts_its_product_once(world: WorldModel, tmp_path: Path) -> None:
    lora.add(world, replace(EVERY, alpha=3))
    trained(world)
    lora.save(world, tmp_path / "ours.safetensors")
    tensors = load_file(tmp_path / "ours.safetensors")
    save_file({key.removeprefix("transformer."): value for key, value in tensors.items()}, tmp_path / "a.safetensors")
    other = WorldModel(VIDEO)
    assert lora.load(other, tmp_path / "a.safetensors") == replace(EVERY, alpha=3)
    assert same(lora.parameters(other), lora.parameters(world))


LAST = "transformer.transformer_blocks.2.attn1.to_q.lora_A.weight"
BROKEN: dict[str, tuple[Callable[[dict[str, Tensor]], object], dict[str, object] | str | None, str]] = {
    "one block of many": (lambda t: t.pop(LAST), {}, r"key transformer_blocks\.2\.attn1\.to_q\.lora_A\.weight is miss"),
    "more blocks": (
        lambda t: t.update({LAST.replace(".2.", ".3."): t[LAST].clone()}),
        {},
        r"transformer_blocks\.3\.attn1.* is unexpected: the network of 3 blocks",
    ),
    "no such layer": (
        lambda t: t.update({LAST.replace("to_q", "to_z"): t[LAST].clone()}),
        {},
        "attn1.to_z.* is unexpected",
    ),
    "weights beside": (lambda t: t.update({"transformer.proj_out.weight": torch.ones(3)}), {}, "not one of adapters"),
    "another width": (lambda t: t.update({LAST: torch.ones(8, 47)}), {}, r"has shape \(8, 47\), expected \(8, 48\)"),
    "two ranks": (lambda t: t.update({LAST: torch.ones(4, 48)}), {}, r"has shape \(4, 48\), expected \(8, 48\)"),
    "a rank not stated": (lambda t: None, {"r": 4}, r"has shape \(8, 48\), expected \(4, 48\)"),
    "half a rank": (lambda t: None, {"r": 0.5}, "r 0.5: a positive number"),
    "no alpha": (lambda t: None, {"lora_alpha": "much"}, "lora_alpha 'much': a positive number"),
    "ranks by layer": (lambda t: None, {"rank_pattern": {"to_q": 4}}, "rank_pattern"),
    "no JSON": (lambda t: None, "{", "lora_adapter_metadata is no JSON"),
    "no object": (lambda t: None, "[]", "lora_adapter_metadata is no JSON"),
    "not finite": (lambda t: t[LAST].fill_(float("nan")), {}, "NaN"),
    "halves": (lambda t: [t.pop(key) for key in list(t) if "lora_A" in key], None, "no key that ends with .lora_A"),
    "whole numbers": (lambda t: t.update({LAST: torch.ones(8, 48).int()}), {}, "holds torch.int32"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_file_that_does_not_fit_is_refused_and_leaves_the_network_as_it_was(
    world: WorldModel, case: str, tmp_path: Path
) -> None:
    lora.add(world, lora.PRESETS["predict1"])
    lora.save(world, tmp_path / "whole.safetensors")
    lora.remove(world)
    world.requires_grad_(True)
    tensors = load_file(tmp_path / "whole.safetensors")
    change, fields, message = BROKEN[case]
    change(tensors)
    said = {"transformer.r": 8, "transformer.lora_alpha": 8}
    metadata: dict[str, str] = {}
    if isinstance(fields, str):
        metadata["lora_adapter_metadata"] = fields
    elif fields is not None:
        metadata["lora_adapter_metadata"] = json.dumps(said | {f"transformer.{n}": v for n, v in fields.items()})
    save_file(tensors, tmp_path / "broken.safetensors", metadata)
    with pytest.raises(InputError, match=message) as error:
        lora.load(world, tmp_path / "broken.safetensors")
    assert str(error.value).startswith(str(tmp_path / "broken.safetensors"))
    assert "\n" not in str(error.value)
    assert not lora.layers(world)
    assert all(value.requires_grad for value in world.parameters())


def test_adapters_are_added_once_and_asked_for_only_where_there_are_some(world: WorldModel, tmp_path: Path) -> None:
    for act in (lora.merge, lora.unmerge, lambda model: lora.save(model, tmp_path / "none.safetensors")):
        with pytest.raises(InputError, match="has no adapters"):
            act(world)
    assert not list(tmp_path.iterdir())
    lora.add(world, lora.PRESETS["predict1"])
    lora.save(world, tmp_path / "a.safetensors")
    for act in (lambda: lora.add(world, EVERY), lambda: lora.load(world, tmp_path / "a.safetensors")):
        with pytest.raises(InputError, match=r"has adapters: lora\.remove them first"):
            act()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rank": 0, "alpha": 1}, "rank is 0"),
        ({"rank": 4, "alpha": 0}, "alpha is 0"),
        ({"rank": 4, "alpha": float("inf")}, "alpha is inf"),
        ({"rank": 4, "alpha": 4, "targets": ()}, "give one or more"),
        ({"rank": 4, "alpha": 4, "targets": ("up", "up")}, "each once"),
        ({"rank": 4, "alpha": 4, "targets": ("self_attention.q", "attn.q")}, "'attn.q': use self_attention.q, "),
    ],
)
def test_a_config_out_of_range_says_what_to_give(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        LoRAConfig(**fields)


def test_targets_are_all_linear_layers_of_a_block(net: DiT) -> None:
    found = {name for name, part in net.blocks[0].named_modules() if isinstance(part, nn.Linear)}
    assert found == set(lora.TARGETS)
