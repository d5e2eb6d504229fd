"""Rendering: every Document becomes a picture that says what it must, whatever is in it."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import matplotlib
import pytest
from farm_dashboards import render

from tests.dashboards import samples

MAGIC = {"png": b"\x89PNG\r\n\x1a\n", "svg": b"<?xml", "pdf": b"%PDF-"}


@cache
def plain() -> tuple[str, ...]:
    """The texts of the unchanged sample of a run, drawn once."""
    return tuple(samples.texts(samples.run()))


def png_size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels."""
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def test_a_wrong_format_theme_or_size_is_refused_with_what_is_possible() -> None:
    with pytest.raises(ValueError, match="format 'gif' is not known; known formats: png, svg, pdf"):
        render.render(samples.run(), format="gif")
    with pytest.raises(ValueError, match="theme 'neon' is not known; known themes: light, dark"):
        render.render(samples.run(), theme="neon")
    with pytest.raises(ValueError, match=r"size \(1, 900\) cannot be drawn; each side must be 5 to 60 inches"):
        render.render(samples.run(), size=(1, 900))


def test_a_wrong_document_is_refused_before_anything_is_drawn() -> None:
    document = samples.run()
    del document["memory"]
    with pytest.raises(ValueError, match="document lacks the field 'memory'"):
        render.render(document)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("format", ["png", "svg", "pdf"])
@pytest.mark.parametrize("kind", ["run", "compare"])
def test_every_kind_renders_in_every_format_and_theme(kind: str, format: str, theme: str) -> None:
    data = render.render(samples.by_kind(kind), format=format, theme=theme)
    assert data.startswith(MAGIC[format])
    assert len(data) > 10_000


@pytest.mark.parametrize("format", ["png", "svg", "pdf"])
def test_the_same_document_gives_the_same_bytes(format: str) -> None:
    assert render.render(samples.run(), format=format) == render.render(samples.run(), format=format)


def test_two_threads_draw_two_themes_at_once_without_mixing_them() -> None:
    alone = [render.render(samples.run(), format="svg", theme=theme) for theme in ("light", "dark")]
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda theme: render.render(samples.run(), format="svg", theme=theme), ("light", "dark")))
    assert both == alone


def test_the_settings_of_matplotlib_are_left_as_they_were() -> None:
    before = dict(matplotlib.rcParams)
    render.render(samples.run(), theme="dark")
    assert dict(matplotlib.rcParams) == before


def test_a_size_is_kept() -> None:
    assert png_size(render.render(samples.run(), size=(8, 9))) == (1200, 1350)


def test_a_run_shows_its_figures_in_units_that_people_read() -> None:
    shown = plain()
    assert shown[0] == "mobilenet_v2"
    assert "OK, valid" in shown
    for expected in ("3.61 ms", "P50 latency (3.58–3.69)", "274 /s", "89.8 MB", "P95 3.99 ms (3.90–4.05)"):
        assert expected in shown
    for expected in ("latency, ms", "°C", "GHz", "resident memory, MB", "cpu.temp", "policy0.freq", "process 1", "5"):
        assert expected in shown
    assert "timed, n = 500" in shown
    assert "warm-up, n = 60" in shown


def test_a_quantile_that_n_cannot_support_says_what_it_needs() -> None:
    shown = plain()
    assert "needs 459" in shown
    assert "P99 needs 459" in shown
    assert not any(text.startswith("P99 4") for text in shown)


def test_memory_names_its_stages_and_the_cold_load_peak() -> None:
    shown = plain()
    for expected in ("interpreter", "runtime", "load", "first", "steady", "anonymous", "file-backed"):
        assert expected in shown
    assert "cold load peak 89.8 MB" in shown
    assert "peak within the stage" in shown
    assert "swapped" not in shown


def test_a_peak_that_could_not_be_reset_is_called_running() -> None:
    document = samples.run()
    for stage in document["memory"]["stages"]:
        stage["peak_is_running"] = True
    shown = samples.texts(document)
    assert "highest so far" in shown
    assert "peak within the stage" not in shown


def test_a_board_without_sensors_is_said_to_lack_them() -> None:
    shown = samples.texts(samples.run(sensors=False))
    assert any(text.endswith("This board gave no temperature and no frequency.") for text in shown)
    assert "°C" not in shown
    assert not any("This board gave no" in text for text in plain())


@pytest.mark.parametrize(
    ("outcome", "word"),
    [("NOISY", "NOISY"), ("FAILED", "FAILED"), ("BROKEN", "BROKEN"), ("CANCELLED", "CANCELLED"), (None, "NOT ENDED")],
)
def test_an_outcome_other_than_ok_is_a_banner_with_its_reasons(outcome: str | None, word: str) -> None:
    shown = samples.texts(samples.run(outcome=outcome))
    assert word in shown
    assert "throttled: CPU at 1500 MHz, locked to 2400 MHz." in shown
    assert "OK, valid" not in shown


def test_a_banner_is_hatched_so_that_it_shows_without_colour() -> None:
    noisy, calm = (render.render(samples.run(outcome=outcome), format="svg") for outcome in ("NOISY", "OK"))
    assert noisy.count(b"<pattern") == calm.count(b"<pattern") + 1


def test_a_virtual_board_is_never_shown_as_valid() -> None:
    shown = samples.texts({**samples.run(), "is_virtual": True})
    assert "VIRTUAL" in shown
    assert "OK, valid" not in shown


def test_more_reasons_than_there_is_room_for_are_counted() -> None:
    document = samples.run(outcome="NOISY")
    document["reasons"] *= 9
    assert "and 6 more reasons" in samples.texts(document)


def test_a_comparison_across_fingerprints_lists_what_differs_and_judges_nothing() -> None:
    shown = samples.texts(samples.compare(3, comparable=False))
    assert "the fingerprints differ: shown side by side, never judged" in shown
    first = shown.index("runtime.version")
    assert shown[first : first + 4] == ["runtime.version", "1.31.1", "1.30.0", "–"]
    assert first < shown.index("Distribution, one line a process")


def test_a_comparison_of_one_fingerprint_has_no_warning() -> None:
    shown = samples.texts(samples.compare())
    assert "2 runs of one model: mobilenet_v2" in shown
    assert not {"DIFFERENT", "NOISY", "VIRTUAL", "Differs"} & set(shown)


def test_a_comparison_shows_every_value_its_interval_and_its_ratio() -> None:
    shown = samples.texts(samples.compare(2))
    for expected in (
        "P50 latency",
        "3.60 ms (3.53–3.71)",
        "×1.00",
        "3.96 ms (3.88–4.08)",
        "×1.10",
        "99.0 MB (97.0–102)",
    ):
        assert expected in shown
    assert "ratio to run a" in shown


def test_a_comparison_says_which_runs_are_not_valid() -> None:
    document = samples.compare(3)
    document["runs"][1].update(outcome="NOISY", reasons=[{"code": "throttled", "text": "hot"}])
    document["runs"][2]["is_virtual"] = True
    shown = samples.texts(document)
    assert "b: throttled: hot" in shown
    assert any(text.startswith("c: measured on a virtual board") for text in shown)


def test_an_absent_figure_is_shown_with_its_reason_not_as_a_number() -> None:
    document = samples.compare()
    document["metrics"][1]["runs"][1] = {
        "value": None, "low": None, "high": None, "first_ratio": None, "reason": "needs 459"
    }  # fmt: skip
    assert "needs 459" in samples.texts(document)


def test_a_ratio_beyond_the_axis_is_still_given_as_text() -> None:
    document = samples.compare()
    document["metrics"][0]["runs"][1].update(first_ratio=5000.0, low=-3.0)
    shown = samples.texts(document)
    assert "×5,000" in shown
    assert "×8" in shown


def test_six_runs_and_forty_metrics_say_what_is_left_out() -> None:
    document = samples.compare(6, comparable=False)
    document["metrics"] *= 14
    document["differences"] *= 30
    shown = samples.texts(document)
    assert "ratio to run a (34 more figures are not shown)" in shown
    assert "Differs, and 18 more" in shown


def test_two_arms_are_told_apart_by_more_than_colour() -> None:
    document = samples.run(processes=4)
    for block in document["latency"]["blocks"]:
        block["arm"] = "ab"[block["index"] % 2]
    shown = samples.texts(document)
    assert "arm a, timed, n = 200" in shown
    assert "arm b, timed, n = 200" in shown
    assert {"1a", "2b", "3a", "4b"} <= set(shown)


def test_drawing_needs_no_display_and_no_pyplot() -> None:
    code = (
        "import sys; from farm_dashboards import render; from tests.dashboards import samples;"
        "render.render(samples.run()); print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
