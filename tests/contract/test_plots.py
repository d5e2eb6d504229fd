"""Every file of plots/ is a figure: named like the Document it draws, tested the moment it exists."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from types import ModuleType

import pytest
from farm_dashboards import documents, render, theme
from matplotlib.figure import Figure

from tests.dashboards import samples


def _module(kind: str) -> ModuleType:
    return importlib.import_module(f"farm_dashboards.plots.{kind}")


def test_there_is_a_figure_for_run_and_compare() -> None:
    assert {"compare", "run"} <= set(render.kinds())


@pytest.mark.parametrize("kind", render.kinds())
def test_a_figure_says_what_it_is_and_has_one_way_in(kind: str) -> None:
    module = _module(kind)
    assert (module.__doc__ or "").strip().endswith(".")
    assert list(inspect.signature(module.draw).parameters) == ["document", "look", "size"]


@pytest.mark.parametrize("kind", render.kinds())
def test_a_figure_draws_the_document_of_its_name(kind: str) -> None:
    document = samples.by_kind(kind)
    assert document["kind"] == kind
    documents.check(document)
    figure = _module(kind).draw(document, theme.theme("light"), None)
    assert isinstance(figure, Figure)
    assert len(figure.axes) >= 3


@pytest.mark.parametrize("kind", render.kinds())
def test_a_figure_refuses_a_document_with_a_field_less(kind: str) -> None:
    for field in samples.by_kind(kind):
        document = samples.by_kind(kind)
        del document[field]
        with pytest.raises(ValueError, match=field):
            render.render(document)


def test_importing_the_figures_imports_neither_the_farm_nor_the_agent() -> None:
    names = ",".join(f"farm_dashboards.plots.{kind}" for kind in render.kinds())
    code = f"import sys, farm_dashboards.render, {names}; print({{'farm', 'farm_agent'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
