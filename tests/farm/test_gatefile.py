"""Gate files: every mistake with its line, what is left out, and one canonical form."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm import gatefile, rules
from farm.errors import GateError
from farm.rules import Gate, Reference, Rule

METRICS = "version: 1\nmetrics:\n  p50_latency_ns: {max_change: 2 %}\n"


def _mistakes(text: str) -> list[str]:
    with pytest.raises(GateError) as caught:
        gatefile.parse(text, "g.yaml")
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("Gate file 'g.yaml' has ")
    assert lines[-1] == "docs/gates.md explains every key."
    return [line.removeprefix("g.yaml:") for line in lines[1:-1]]


def _parse(text: str) -> Gate:
    return gatefile.parse(text, "g.yaml")


def test_a_file_that_is_not_there_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(GateError, match=r"cannot be read: No such file.*\nversion: 1\nmetrics:"):
        gatefile.load(tmp_path / "no.yaml")


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("", "1: the file holds nothing; one document is needed."),
        ("a: [", "1: this is not YAML"),
        ("- version: 1", "1: the gate is a list. Write `key: value` lines; known: version, metrics,"),
        (METRICS[11:], "1: `version` is missing. Add the line `version: 1`."),
        ("version: 2" + METRICS[10:], "1: version is '2'; this benchfarm reads version 1. Update it."),
        ("version: 1\n", "1: `metrics` is missing. Name one, such as p50_latency_ns: {max_change: 2 %}."),
        ("version: 1\nmetrics: {}\n", "2: `metrics` is a mapping. Name one"),
        ("version: 1\nmetrics: [p50_latency_ns]\n", "2: `metrics` is a list. Name one"),
        (METRICS + "aplha: 0.01\n", "4: the gate has an unknown key 'aplha'; did you mean 'alpha'?"),
        (METRICS + "alpha: 0.01\nalpha: 0.02\n", "5: line 4 gave the key 'alpha' already. Keep one of them."),
        (METRICS + "alpha: 0\n", "4: alpha is '0'; an error rate from 1e-06 to 0.2 is needed, such as 0.01."),
        (METRICS + "alpha: 1.5\n", "4: alpha is '1.5'; an error rate from 1e-06 to 0.2 is needed, such as 0.01."),
        (METRICS + "beta: .nan\n", "4: beta is '.nan'; a number and its unit are needed"),
        (METRICS + "beta: low\n", "4: beta is 'low'; a number and its unit are needed"),
        (METRICS + "pairs: 0\n", "4: pairs is '0'; a whole number from 1 to 1000 is needed; nothing measured is never"),
        (METRICS + "pairs: 6\n", "4: pairs is 6, but no FAIL can come before pair 7 at these error rates."),
        (METRICS + "budget_s: 0\n", "4: budget_s is '0'; board-seconds above 0, up to 86400, are needed; nothing"),
        (METRICS + "on_no_baseline: pass\n", "4: on_no_baseline is 'pass'; one of these is needed: limits, undecided"),
        (
            METRICS + "on_undecided: pass\n",
            "4: on_undecided is 'pass'; one of these is needed: undecided, fail, accept",
        ),
        (METRICS + "references: last-passing\n", "4: references is 'last-passing'; a list is needed"),
        (METRICS + "references: [A B]\n", "4: a reference is 'A B'; lowercase letters, digits, ., - and _ are needed"),
        (METRICS + "references: [a, a]\n", "4: reference 'a' is there twice. Give each its own name."),
        (METRICS + "references:\n  - {run: x, branch: y}\n", "5: a reference is a mapping; one of run and branch is"),
        (METRICS + "references:\n  - {max_change: {}}\n", "5: a reference is a mapping; a name, or one of artifact,"),
        (
            METRICS + "references:\n  - {artefact: x}\n",
            "5: a reference is 'artefact'; a reference has no such key; did",
        ),
        (METRICS + "references:\n  - {artifact: xyz}\n", "5: a reference is 'xyz'; 8 to 64 hex digits of a sha256 are"),
        (
            METRICS + "references:\n  - name: a\n    max_change: {p5_latency_ns: 2 %}\n",
            "6: a reference is 'p5_latency_ns'; no metric above has a max_change by this name; did you mean",
        ),
    ],
)
def test_a_mistake_has_its_line_and_what_to_do(text: str, mistake: str) -> None:
    found = _mistakes(text)
    assert len(found) == 1
    assert found[0].startswith(mistake)


@pytest.mark.parametrize(
    ("metric", "mistake"),
    [
        ("p50_latncy_ns: {}", "metric 'p50_latncy_ns' is none that a gate knows; did you mean 'p50_latency_ns'?"),
        ("p999_latency_ns: {limit: 1 ms}", "metric 'p999_latency_ns' is none that a gate knows"),
        ("rail.core.voltage_v: {max_change: 1 %}", "metric 'rail.core.voltage_v' has no worse direction."),
        ("rail.core.size: {max_change: 1 %}", "metric 'rail.core.size' ends in no known unit."),
        ("load_ns: {}", "metric load_ns has no default margin. Give it max_change, limit or both."),
        ("p50_latency_ns: 2 %", "metric p50_latency_ns is '2 %'. Write `key: value` lines; known: max_change, limit."),
        ("p50_latency_ns: {max_change: 0.02}", "max_change of p50_latency_ns is '0.02'; a share above 0 %"),
        ("p50_latency_ns: {max_change: -20 %}", "max_change of p50_latency_ns is '-20 %'; a share above 0 %"),
        ("p50_latency_ns: {limit: 60}", "limit of p50_latency_ns is '60'; a number with one of these units is needed"),
        ("p50_latency_ns: {limit: 60 MB}", "limit of p50_latency_ns is '60 MB'; a number with one of these units"),
        ("p50_latency_ns: {deadline: 60 ms}", "metric p50_latency_ns has an unknown key 'deadline'"),
        ("throughput_per_s: {max_change: 100 %}", "throughput_per_s cannot fall by 100 % or more."),
        ("deadline_miss_ratio: {limit: 1 %}", "deadline_miss_ratio needs a deadline and a limit"),
        ("deadline_miss_ratio: {deadline: 33 ms, limit: 0 %}", "a deadline above 0 ms and a limit between 0 %"),
        (
            "deadline_miss_ratio: {deadline: 33 ms, limit: 0.1 %}",
            "a limit on deadline_miss_ratio this strict needs 4603",
        ),
    ],
)
def test_a_mistake_in_a_metric_has_its_line(metric: str, mistake: str) -> None:
    found = _mistakes(f"version: 1\nmetrics:\n  cold_load_rss_bytes: {{}}\n  {metric}\n")
    assert len(found) == 1
    assert found[0].startswith(f"4: {mistake}")


def test_references_without_a_margin_are_a_mistake() -> None:
    text = "version: 1\nmetrics: {p50_latency_ns: {limit: 1 ms}}\nreferences: [deployed]\n"
    assert _mistakes(text) == ["3: there are references, but no metric has a max_change. Give one."]


def test_every_mistake_is_told_at_once_in_the_order_of_lines() -> None:
    found = _mistakes("version: 3\nmetrics: {load_ns: {}}\nalpha: 7\nbeta: x\n")
    assert [line[0] for line in found] == ["1", "2", "3", "4"]


@given(st.text(max_size=200) | st.binary(max_size=100))
def test_whatever_the_text_is_the_answer_is_a_gate_or_a_mistake(text: str | bytes) -> None:
    with pytest.raises(GateError):
        gatefile.parse(text, "g.yaml")


def test_what_is_left_out_has_its_default() -> None:
    found = _parse("version: 1\nmetrics:\n  p50_latency_ns:\n  p99_latency_ns: {}\n")
    assert found == Gate((Rule("p50_latency_ns", 0.02), Rule("p99_latency_ns", 0.25)))
    assert (found.alpha, found.beta, found.pairs, found.budget_s) == (0.01, 0.05, 80, 900.0)
    assert found.references == (Reference("last-passing", "last-passing"),)


def test_every_key_is_read_in_base_units() -> None:
    found = _parse(
        "version: 1\nmetrics:\n  p99_latency_ns: {max_change: 0.29 %, limit: 60ms}\n  cold_load_rss_bytes:"
        " {limit: 1.5 GiB}\n  deadline_miss_ratio: {deadline: 250 us, limit: 1 %}\n  soc.temp_c: {limit: 70 °C}\n"
        "  load_major_faults: {limit: 12}\n  throughput_per_s: {limit: 2 k/s}\nalpha: 1 %\nbeta: 0.1\npairs: 40\n"
        "budget_s: 120 s\non_no_baseline: fail\non_undecided: accept\n"
    )
    assert found.rules == (
        Rule("p99_latency_ns", 0.0029, limit=60e6),
        Rule("cold_load_rss_bytes", limit=1.5 * 2**30),
        Rule("deadline_miss_ratio", limit=0.01, deadline_ns=250_000.0),
        Rule("soc.temp_c", limit=70.0),
        Rule("load_major_faults", limit=12.0),
        Rule("throughput_per_s", limit=2000.0),
    )
    assert (found.alpha, found.beta, found.pairs, found.budget_s) == (0.01, 0.1, 40, 120.0)
    assert (found.on_no_baseline, found.on_undecided) == ("fail", "accept")


def test_references_are_named_in_every_way() -> None:
    found = _parse(
        METRICS + "references:\n- last-passing\n- deployed\n- {name: raw, artifact: 3fa94c1d}\n- {run: 0192-77}\n"
        "- {branch: main, max_change: {p50_latency_ns: 5 %}}\n- {name: shipped, baseline: v1}\n"
    )
    assert found.references == (
        Reference("last-passing", "last-passing"),
        Reference("deployed", "baseline", "deployed"),
        Reference("raw", "artifact", "3fa94c1d"),
        Reference("run:0192-77", "run", "0192-77"),
        Reference("branch:main", "branch", "main", (("p50_latency_ns", 0.05),)),
        Reference("shipped", "baseline", "v1"),
    )
    assert found.margin(found.references[4], found.rules[0]) == 0.05
    assert found.margin(found.references[0], found.rules[0]) == 0.02


def test_a_gate_is_known_by_what_its_evidence_means_not_by_budget_policy_or_order() -> None:
    one = _parse("version: 1\nmetrics: {p50_latency_ns: {}, cold_load_rss_bytes: {}}\n")
    metrics = "{cold_load_rss_bytes: {max_change: 1 %}, p50_latency_ns: {max_change: 2.0 %}}"
    same = _parse(f"version: 1\nbudget_s: 60\npairs: 30\non_undecided: fail\nmetrics: {metrics}\n")
    assert one.hash == same.hash
    others = ["alpha: 0.02", "beta: 0.02", "references: [deployed]"]
    wider = "version: 1\nmetrics: {p50_latency_ns: {max_change: 3 %}, cold_load_rss_bytes: {}}\n"
    texts = [
        wider,
        *(f"version: 1\nmetrics: {{p50_latency_ns: {{}}, cold_load_rss_bytes: {{}}}}\n{x}\n" for x in others),
    ]
    assert len({one.hash, *(_parse(text).hash for text in texts)}) == 5


def test_limits_say_how_long_a_block_must_be() -> None:
    assert rules.least_queries(Gate((Rule("p99_latency_ns", 0.25),))) == 25
    assert rules.least_queries(Gate((Rule("p99_latency_ns", limit=6e7), Rule("p50_latency_ns", limit=6e7)))) == 459
    assert rules.least_queries(Gate((Rule("deadline_miss_ratio", limit=0.05, deadline_ns=1e6),))) == 90
    assert rules.least_block_s(Gate((Rule("p50_latency_ns", 0.02),))) == 0.0
    assert rules.least_block_s(Gate((Rule("energy_per_inference_j", 0.03),))) == 10.0


@pytest.mark.parametrize(("references", "metrics", "pairs"), [(1, 1, 7), (1, 5, 9), (2, 5, 10)])
def test_how_many_pairs_a_fail_takes_at_least(references: int, metrics: int, pairs: int) -> None:
    named = tuple(Reference(str(n), "baseline", str(n)) for n in range(references))
    assert rules.fewest_pairs(Gate(tuple(Rule(metric, 0.1) for metric in rules.METRICS[:metrics]), named)) == pairs


@pytest.mark.parametrize("q", [0.5, 0.9, 0.95, 0.99, 0.995])
def test_how_many_queries_a_limit_needs_is_what_a_summary_needs(q: float) -> None:
    from farm.stats import summary

    assert rules.supports(q) == summary.needed(q)


def _example(text: str, start: str, end: str) -> str:
    return textwrap.dedent(text[text.index(start) : text.index(end)])


def test_the_examples_of_the_page_and_of_the_module_are_gate_files() -> None:
    page = (Path(__file__).parents[2] / "docs/gates.md").read_text("utf-8")
    of_page = _parse(_example(page, "version: 1", "```\n\n|"))
    of_module = _parse(_example(gatefile.__doc__ or "", "    version: 1", "Only `version`"))
    assert {rule.metric for rule in of_page.rules} < {rule.metric for rule in of_module.rules}
    assert of_page.references == of_module.references
    assert len(of_page.references) == 3


def test_every_key_and_every_choice_is_on_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs/gates.md").read_text("utf-8")
    keys = [*Gate.__dataclass_fields__, "max_change", "limit", "deadline", "artifact", "run", "branch", "baseline"]
    choices = [*get_args(rules.NoBaseline), *get_args(rules.OnUndecided), rules.LAST_PASSING]
    named = {"rules": "metrics"}
    assert [word for word in [*keys, *choices] if f"`{named.get(word, word)}`" not in page] == []
    for metric, share in rules.MARGINS.items():
        assert f"{100 * share:g} %" in page, metric
