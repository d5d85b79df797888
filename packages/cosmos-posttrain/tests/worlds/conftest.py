"""What tests of the worlds share: they are skipped, by name, where nothing can be rendered."""

import pytest

from cosmos_posttrain.worlds import check_renderer
from cosmos_tokenizer import InputError


@pytest.fixture(scope="session", autouse=True)
def renderer() -> None:
    try:
        check_renderer()
    except InputError as error:
        pytest.skip(str(error))
