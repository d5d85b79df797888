"""Every released network has the parameters that its checkpoint has, by number, name and shape."""

import hashlib

import pytest
import torch

from cosmos_tokenizer import PRESETS, CausalTokenizer
from cosmos_tokenizer.native import slots

PARAMETERS = {
    "ci8x8-0.1": 76_789_472,
    "ci16x16-0.1": 81_509_088,
    "di8x8-0.1": 79_004_342,
    "di16x16-0.1": 83_723_958,
    "cv4x8x8-0.1": 73_192_128,
    "cv8x8x8-0.1": 105_653_696,
    "cv8x16x16-0.1": 110_898_624,
    "dv4x8x8-0.1": 104_669_558,
    "dv8x8x8-0.1": 105_653_366,
    "dv8x16x16-0.1": 110_898_294,
    "cv8x8x8-720p": 105_653_696,
    "dv8x16x16-720p": 110_898_294,
    "ci8x8-360p": 81_384_636,
    "ci16x16-360p": 84_334_524,
    "di8x8-360p": 83_599_506,
    "di16x16-360p": 86_549_394,
    "cv4x8x8-360p": 110_208_816,
    "dv4x8x8-360p": 112_619_766,
}

# SHA-256 of the sorted lines "name shape" of the reference's modules, dead convolutions and buffers left out.
NATIVE_KEYS = {
    "ci8x8-0.1": "c5c0eaa0bc3c957094eccad5ace636bb97955aeec0f44510b39cd9412dbbbba5",
    "ci16x16-0.1": "cbfa51b5ef2faf91e4cf16338c0405060419a9816d12c1f6c30e89b92a8fe933",
    "di8x8-0.1": "ce40dd2453d270125cce533f1dcf7cc7d34035fc8fc7a13fd591669785de1eaa",
    "di16x16-0.1": "c4a5f9be44902163682406c19cf1c29e3f4d36f8d3b2f9f56321d132545bd8e9",
    "cv4x8x8-0.1": "42cb39d0b5fd4473009e186f2e64f2f3513ff8a6e7b95a6d20527e907d0edad2",
    "cv8x8x8-0.1": "f2195392e9e571d09e0cceb6d1e6ad34601118ec840b22eaba15c1c8d7d3553d",
    "cv8x16x16-0.1": "0d931a6623388fca41fda9dc4cdc19b3d1debd532d9b216224484a23a2a9ad80",
    "dv4x8x8-0.1": "dce842a064ea999ac6344fd7e83dde612ec0206cf5c53e2ac36b0cbc3bc99dec",
    "dv8x8x8-0.1": "bbca3e4f975e6bdd1b71f1cf8cbeebcee5089f5cfe7e53194cc1cf4d2c10b2ea",
    "dv8x16x16-0.1": "fbf67bea1f7207f6d61cf36f2e85bc91a3ea983a878f259a85887752507fb467",
}


@pytest.mark.parametrize(("name", "count"), PARAMETERS.items())
def test_a_released_network_has_its_number_of_parameters(name: str, count: int) -> None:
    with torch.device("meta"):
        model = CausalTokenizer(PRESETS[name])
    assert sum(parameter.numel() for parameter in model.parameters()) == count


@pytest.mark.parametrize(("name", "digest"), NATIVE_KEYS.items())
def test_a_released_network_has_the_native_names_and_shapes(name: str, digest: str) -> None:
    lines = sorted(f"{slot.name} {'x'.join(map(str, slot.shape))}" for slot in slots(PRESETS[name], "both").values())
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == digest


def test_every_released_network_is_pinned() -> None:
    small = {name for name in PRESETS if name.startswith(("toy", "nano"))}
    assert PRESETS.keys() - small == PARAMETERS.keys()
    nanos = {"nano-cv4x8x8", "nano-dv4x8x8", "nano-cv8x8x8", "nano-dv8x16x16"}
    assert small == {"toy", "toy-discrete"} | nanos
