"""Recipes: what is trained, on what, for how long."""

from cosmos_posttrain.recipes.tokenizer import RECIPES as RECIPES
from cosmos_posttrain.recipes.tokenizer import TokenizerRecipe as TokenizerRecipe

__all__ = ["RECIPES", "TokenizerRecipe"]
