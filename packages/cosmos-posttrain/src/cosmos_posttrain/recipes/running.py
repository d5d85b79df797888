"""Every recipe by name, and one door to run any."""

from collections.abc import Callable, Mapping
from pathlib import Path

from cosmos_posttrain.recipes import diffusion, stages, tokenizer
from cosmos_posttrain.recipes.diffusion import DiffusionRecipe
from cosmos_posttrain.recipes.tokenizer import TokenizerRecipe
from cosmos_tokenizer import InputError

Recipe = TokenizerRecipe | DiffusionRecipe

RECIPES: Mapping[str, Recipe] = {**tokenizer.RECIPES, **diffusion.RECIPES, **stages.RECIPES}


def run(
    recipe: Recipe,
    data: Path,
    out: Path,
    *,
    resume: bool = False,
    networks: Path | None = None,
    embeddings: Path | None = None,
    validation: Path | None = None,
    workers: int = 0,
    say: Callable[[str], None] = print,
) -> Path:
    """Train ``recipe`` and return the file that it wrote; see ``tokenizer.run`` and ``diffusion.run``.

    Raises:
        InputError: as theirs; or something is given that the recipe has no use for.
    """
    if isinstance(recipe, TokenizerRecipe):
        _refuse("tokenizers", embeddings=embeddings, validation=validation)
        return tokenizer.run(recipe, data, out, resume=resume, networks=networks, workers=workers, say=say)
    _refuse("diffusion models", networks=networks)
    return diffusion.run(
        recipe, data, out, resume=resume, embeddings=embeddings, validation=validation, workers=workers, say=say
    )


def _refuse(kind: str, **given: Path | None) -> None:
    for name, value in given.items():
        if value is not None:
            raise InputError(f"--{name} is {value}: recipes of {kind} have no use for it; leave it out")
