"""What this package takes from cosmos-tokenizer is public there, so that each can be released alone."""

import ast
import re
from pathlib import Path

import cosmos_diffusion
import cosmos_tokenizer

FILES = sorted(Path(cosmos_diffusion.__file__).parent.rglob("*.py"))
MODULES = set(re.findall(r"`(\w+)`", cosmos_tokenizer.__doc__ or ""))


def test_only_public_names_and_modules_of_the_tokenizer_are_imported() -> None:
    froms = [
        node for path in FILES for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)
    ]
    taken = [(node.module or "", alias.name) for node in froms for alias in node.names]
    names = {name for module, name in taken if module == "cosmos_tokenizer"}
    modules = {module.split(".")[1] for module, _ in taken if module.startswith("cosmos_tokenizer.")}
    assert names - {*cosmos_tokenizer.__all__} | modules <= MODULES
    assert "InputError" in names
    assert "commandline" in modules
