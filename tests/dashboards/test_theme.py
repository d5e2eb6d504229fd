"""The theme: names cannot disturb a figure, and figures are in units that people read."""

from __future__ import annotations

import pytest
from farm_dashboards import theme

from tests.dashboards import samples


def test_control_and_direction_characters_are_shown_not_obeyed() -> None:
    assert theme.safe("a\x00b\x1b[31mc\u202ed\ud800") == "a\\x00b\\x1b[31mc\\u202ed\\ud800"


def test_a_name_stays_on_one_line() -> None:
    assert theme.safe(" two\nlines\u2028and\ta tab ") == "two lines and a tab"


def test_a_glyph_that_the_font_lacks_is_a_box() -> None:
    assert theme.safe("漢 🚀 é ä $x$") == "□ □ é ä $x$"


def test_piled_marks_are_cut_to_one() -> None:
    assert theme.safe("x\u0323\u0323\u0323\u0323y") == theme.safe("x\u0323y")


def test_a_long_name_is_cut_in_its_middle_and_fits() -> None:
    text = theme.fit("mobilenet_v2_" + "x" * 500 + "_int8", 200, 9)
    assert text.startswith("mobilenet_v2_")
    assert text.endswith("_int8")
    assert "…" in text
    assert theme.width_pt(text, 9) <= 200


@pytest.mark.parametrize("most_pt", [1, 20, 90, 700])
def test_no_name_is_wider_than_its_room(most_pt: float) -> None:
    text = theme.fit(samples.HOSTILE, most_pt, 9, bold=True)
    assert text == "…" or theme.width_pt(text, 9, bold=True) <= most_pt


def test_wrapped_text_says_that_there_was_more() -> None:
    assert theme.wrap("one two three", 1000, 2) == ["one two three"]
    lines = theme.wrap("word " * 100, 120, 2)
    assert len(lines) == 2
    assert lines[1].endswith("…")
    assert all(theme.width_pt(line, 9) <= 120 for line in lines)


@pytest.mark.parametrize(
    ("value", "metric", "text"),
    [
        (3_612_345, "p50_latency_ns", "3.61 ms"),
        (812, "p50_latency_ns", "812 ns"),
        (45_600, "latency_ns", "45.6 µs"),
        (89_812_992, "cold_load_rss_bytes", "89.8 MB"),
        (2.4e9, "policy0.freq_hz", "2.40 GHz"),
        (51.52, "cpu.temp_c", "51.5 °C"),
        (274.12, "throughput_per_s", "274 /s"),
        (0.0025, "deadline_miss_ratio", "0.00250"),
        (0, "rss_growth_bytes", "0 B"),
        (1204, "load_major_faults", "1,204"),
        (-4096, "rss_growth_bytes", "-4.10 kB"),
        (None, "power_w", "–"),
        (float("nan"), "power_w", "–"),
        (7, "of_no_known_kind", "7.00"),
    ],
)
def test_a_figure_is_in_a_unit_that_people_read(value: float | None, metric: str, text: str) -> None:
    assert theme.figure(value, metric) == text


def test_metrics_have_names_that_people_say() -> None:
    assert theme.name_of("p99_latency_ns") == "P99 latency"
    assert theme.name_of("cold_load_rss_bytes") == "cold load RSS"
    assert theme.name_of("throughput_per_s") == "throughput"
    assert theme.name_of("p999_latency_ns") == "P99.9 latency"
    assert theme.name_of("load_major_faults") == "load major faults"
    assert theme.name_of("odd") == "odd"


def test_an_unknown_theme_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"theme 'neon' is not known; known themes: light, dark"):
        theme.theme("neon")


@pytest.mark.parametrize("name", ["light", "dark"])
def test_every_colour_that_carries_meaning_stands_out_from_its_paper(name: str) -> None:
    look = theme.theme(name)
    for colour in (look.ink, look.faint, look.warn, *look.series):
        assert _contrast(colour, look.panel) >= 2.7, colour  # lines and markers; WCAG asks 3 of them, 4.5 of text
    assert _contrast(look.ink, look.paper) >= 10
    assert _contrast(look.faint, look.paper) >= 4.5
    assert _contrast(look.warn, look.warn_paper) >= 4.5
    assert len(set(look.series)) == len(theme.MARKERS) == len(theme.DASHES) == 6


def _contrast(a: str, b: str) -> float:
    light, dark = sorted((_luminance(a), _luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
