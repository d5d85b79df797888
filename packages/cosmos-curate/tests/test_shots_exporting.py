"""Exports in a process of their own: what the caller sees of it."""

import sys

import pytest

from cosmos_curate import InputError
from cosmos_curate.shots.exporting import export_apart


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Return the function that writes a module of this source, found by that process too."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(source):
        (tmp_path / "an_export.py").write_text("import sys, warnings\n" + source)
        return "an_export"

    return write


def test_what_the_module_writes_is_there(module, tmp_path):
    name = module("warnings.warn('a warning')\nopen(sys.argv[2], 'w').write(open(sys.argv[1]).read() + ' exported')")
    (tmp_path / "weights").write_text("weights")
    export_apart(name, tmp_path / "weights", tmp_path / "out")
    assert (tmp_path / "out").read_text() == "weights exported"
    assert name not in sys.modules


def test_weights_that_the_module_refuses_are_the_callers_mistake(module, tmp_path):
    name = module("print('those are others', file=sys.stderr)\nraise SystemExit(3)")
    with pytest.raises(InputError, match="those are others"):
        export_apart(name, tmp_path / "weights", tmp_path / "out")


@pytest.mark.parametrize("source", ["raise ValueError('broken')", "print('broken', file=sys.stderr)"])
def test_anything_else_is_an_error_with_its_last_words(source, module, tmp_path):
    with pytest.raises(RuntimeError, match="weights failed.*broken"):
        export_apart(module(source), tmp_path / "weights", tmp_path / "out")
