"""Where the repository is, and each package it holds."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = sorted(path.parent for path in ROOT.glob("packages/*/pyproject.toml"))


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(params=PACKAGES, ids=lambda path: path.name)
def package(request: pytest.FixtureRequest) -> Path:
    """The folder of each package in turn."""
    return request.param


@pytest.fixture
def packages() -> list[Path]:
    """The folders of all packages."""
    return PACKAGES
