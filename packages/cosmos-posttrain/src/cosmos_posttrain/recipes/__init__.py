"""Recipes: what is trained, on what, for how long."""

from cosmos_posttrain.recipes.diffusion import DiffusionRecipe as DiffusionRecipe
from cosmos_posttrain.recipes.overrides import overridden as overridden
from cosmos_posttrain.recipes.running import RECIPES as RECIPES
from cosmos_posttrain.recipes.running import Recipe as Recipe
from cosmos_posttrain.recipes.running import run as run
from cosmos_posttrain.recipes.terms import TermWeights as TermWeights
from cosmos_posttrain.recipes.tokenizer import TokenizerRecipe as TokenizerRecipe

__all__ = ["RECIPES", "DiffusionRecipe", "Recipe", "TermWeights", "TokenizerRecipe", "overridden", "run"]
