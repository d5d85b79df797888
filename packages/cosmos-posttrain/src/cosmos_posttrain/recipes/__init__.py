"""Recipes: what is trained, on what, for how long."""

from cosmos_posttrain.recipes.overrides import overridden as overridden
from cosmos_posttrain.recipes.terms import TermWeights as TermWeights
from cosmos_posttrain.recipes.tokenizer import RECIPES as RECIPES
from cosmos_posttrain.recipes.tokenizer import TokenizerRecipe as TokenizerRecipe
from cosmos_posttrain.recipes.tokenizer import run as run

__all__ = ["RECIPES", "TermWeights", "TokenizerRecipe", "overridden", "run"]
