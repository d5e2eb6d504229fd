"""What a person writes after --on, and which Boards it fits."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from farm_agent import board as agent_board
from hypothesis import given
from hypothesis import strategies as st

from farm import selector
from farm.domain import Board, BoardState, BoardStatus, Health, Lease, Selector
from farm.errors import InputError
from tests.agents.trees import PI5, plant

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ANY = Selector()
PI4 = Board(
    "pi4-a",
    tags=("active-cooler", "lab"),
    facts={
        "is_virtual": False,
        "identity": {"family": "raspberrypi", "generation": 4, "accelerators": ["hailo8l", {"name": "coral-usb"}]},
        "context": {"memory_total_bytes": 3_999_999_999},
        "runtimes": {
            "onnxruntime": {"present": True, "reason": None},
            "litert": {"present": False, "reason": "ai_edge_litert is not installed"},
        },
    },
)
NEVER_PROBED = Board("new")
VIRTUAL = Board("virt-1", is_virtual=True)

words = st.from_regex(r"[a-z0-9][a-z0-9._+-]{0,8}", fullmatch=True)
selectors = st.builds(
    Selector,
    name=st.none() | words,
    family=st.none() | words,
    generation=st.none() | st.integers(0, 9999),
    accelerator=st.none() | words,
    memory_bytes=st.none() | st.integers(1, 2**53) | st.integers(1, 99).map(lambda n: n * 10**9),
    tags=st.sets(words, max_size=4).map(lambda tags: tuple(sorted(tags))),
    virtual=st.booleans(),
)


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        (
            "famly=jetson",
            "'famly=jetson' cannot be used: there is no key 'famly'. Did you mean family=raspberrypi? Known",
        ),
        ("zzz=1", "there is no key 'zzz'. Known: family=raspberrypi, generation=5, accelerator="),
        ("=5", "it has no key before '='"),
        ("family", "it has no value. Write family=raspberrypi, or name=family"),
        ("family=", "it has no value. Write family=raspberrypi"),
        ("family>=jetson", "'family' is written with '>='. Write family=raspberrypi"),
        ("name==pi5", "'name' is written with '=='. Write name=pi5-a"),
        ("memory=4GB", "'memory' is written with '='. Write memory>=4GB"),
        ("memory>4GB", "'memory' is written with '>'. Write memory>=4GB"),
        ("memory>=4XB", "'4XB' is not a size. Write bytes, or a number with kB"),
        ("memory>=0", "'0' is not a size"),
        ("memory>=9999999999999999GB", "is not a size"),
        ("memory>=1e9", "'1e9' is not a size"),
        ("memory>=-4GB", "'-4GB' is not a size"),
        ("generation=five", "'five' is not a whole number. Write generation=5"),
        ("generation=5.0", "'5.0' is not a whole number"),
        ("generation=²", "'²' is not a whole number"),
        ("virtual=yes", "'virtual' takes no value. Write virtual"),
        ("tags=ssd", "'tags' is written with '='. Write tags>={active-cooler,ssd}"),
        ("tags>=ssd", "'ssd' is not a set of tags. Write tags>={active-cooler,ssd}, or tag=ssd"),
        ("tags>={}", "'{}' is not a set of tags"),
        ("tags>={a,b", "'{a,b' is not a set of tags"),
        ("tags>={a,,b}", "'' is not one word"),
        ("tag=a b", "'a b' is not one word. Use letters"),
        ("pi 5", "the term 'pi 5' cannot be used: it is no name of a board"),
        ("a}b", "it is no name of a board"),
        ("pi5-a,,virtual", "the term 'pi5-a,,virtual' cannot be used: there is nothing between two commas"),
        ("pi5-a,", "there is nothing between two commas or at an end. Remove the comma"),
        ("family=a,family=b", "the term 'family=b' cannot be used: 'family' is given twice. Keep one of them"),
        ("pi5-a,name=pi5-b", "the term 'name=pi5-b' cannot be used: 'name' is given twice"),
        ("virtual,virtual", "'virtual' is given twice"),
        ("tags>={a},tags>={b}", "'tags' is given twice"),
    ],
)
def test_a_mistake_names_its_term_and_what_is_allowed(text: str, seen: str) -> None:
    with pytest.raises(InputError) as caught:
        selector.parse(text)
    assert str(caught.value).startswith("Selector: the term '")
    assert seen in str(caught.value)


@given(st.text(alphabet="ab5=<>{},.~! \t\ntagnmevirul", max_size=30) | st.text(max_size=20))
def test_any_text_is_a_selector_or_your_mistake(text: str) -> None:
    try:
        found = selector.parse(text)
    except InputError:
        return
    assert selector.parse(selector.text(found)) == found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Selector()),
        ("  \t", Selector()),
        ("virtual", Selector(virtual=True)),
        ("pi5-a", Selector(name="pi5-a")),
        ("name=virtual", Selector(name="virtual")),
        ("Family = RaspberryPi , GENERATION=5", Selector(family="raspberrypi", generation=5)),
        ("tags>={ssd, active-cooler}", Selector(tags=("active-cooler", "ssd"))),
        ("tag=ssd,tag=lab,tags>={ssd,poe}", Selector(tags=("lab", "poe", "ssd"))),
        ("virtual,accelerator=hailo8l", Selector(accelerator="hailo8l", virtual=True)),
        ("memory>=4GB", Selector(memory_bytes=4_000_000_000)),
        ("memory >= 4 gib", Selector(memory_bytes=4_294_967_296)),
        ("memory>=512MB", Selector(memory_bytes=512_000_000)),
        ("memory>=0.5MiB", Selector(memory_bytes=524_288)),
        ("memory>=4.1GB", Selector(memory_bytes=4_100_000_000)),
        ("memory>=1000", Selector(memory_bytes=1000)),
    ],
)
def test_what_a_person_types_is_read(text: str, expected: Selector) -> None:
    assert selector.parse(text) == expected


def test_a_selector_is_written_in_one_way() -> None:
    typed = "virtual, tag=b,tag=a, memory>=4096MiB, accelerator=hailo8l,generation=5,family=raspberrypi,pi5-a"
    assert selector.text(selector.parse(typed)) == (
        "name=pi5-a,family=raspberrypi,generation=5,accelerator=hailo8l,memory>=4GiB,tags>={a,b},virtual"
    )


@given(selectors)
def test_what_is_written_is_read_back(one: Selector) -> None:
    assert selector.parse(selector.text(one)) == one


@given(selectors, selectors, st.sets(words, max_size=2), st.sets(words, max_size=2))
def test_keys_are_equal_exactly_where_the_demands_are(
    one: Selector, other: Selector, runtimes: set[str], more: set[str]
) -> None:
    same = one == other and runtimes == more
    assert (selector.key(one, runtimes) == selector.key(other, more)) is same


def test_a_key_does_not_depend_on_the_order_or_on_repeats() -> None:
    written = selector.key(Selector(tags=("b", "a", "b")), ["x", "y", "x"])
    assert written == selector.key(Selector(tags=("a", "b")), {"y", "x"})
    assert written != selector.key(Selector(tags=("a", "b")), {"x"})
    assert len(written) == 16
    assert int(written, 16) >= 0


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("pi5-a", ["name is pi4-a, pi5-a is asked"]),
        ("family=jetson", ["family is raspberrypi, jetson is asked"]),
        ("generation=5", ["generation is 4, 5 is asked"]),
        ("accelerator=tpu", ["accelerator tpu is absent: it has {coral-usb,hailo8l}"]),
        ("accelerator=coral-usb", []),
        ("memory>=4GB", ["memory is 3.99 GB, 4GB is asked"]),
        ("memory>=3999999999", []),
        ("virtual", ["is a real board, and the selector says virtual"]),
        ("tag=lab", []),
        ("tags>={active-cooler,lab}", []),
        ("tags>={active-cooler,ssd}", ["tag ssd is absent: it has {active-cooler,lab}"]),
        (
            "pi4-a,generation=5,tag=ssd",
            ["tag ssd is absent: it has {active-cooler,lab}", "generation is 4, 5 is asked"],
        ),
    ],
)
def test_each_unmet_demand_is_told_with_what_was_seen(asked: str, expected: list[str]) -> None:
    one = selector.parse(asked)
    assert selector.why_not(one, PI4, ["onnxruntime"]) == expected
    assert selector.fits(one, PI4, ["onnxruntime"]) is (not expected)


def test_an_absent_runtime_is_told_with_the_boards_reason() -> None:
    assert selector.why_not(ANY, PI4, {"onnxruntime", "litert", "rknn"}) == [
        "runtime litert is absent: ai_edge_litert is not installed",
        "runtime rknn is absent: its probe does not know it",
    ]


@pytest.mark.parametrize(
    "facts",
    [
        {"identity": None, "context": 5, "runtimes": []},
        {"identity": {"family": 7, "accelerators": {"a": 1}}, "runtimes": {"fake": "yes"}},
        {"identity": {"accelerators": [None, 3, {}]}, "context": {"memory_total_bytes": "8GB"}},
        {"anything": "else"},
    ],
)
def test_a_board_that_answers_nonsense_does_not_fit_and_breaks_nothing(facts: dict[str, Any]) -> None:
    one = selector.parse("family=jetson,generation=5,accelerator=a,memory>=1GB")
    assert len(selector.why_not(one, Board("odd", facts=facts), ["fake"])) == 5


def test_a_long_reason_of_a_board_is_one_short_line() -> None:
    facts = {"runtimes": {"fake": {"present": False, "reason": "broken\n" * 1000}}}
    (phrase,) = selector.why_not(ANY, Board("odd", facts=facts), ["fake"])
    assert phrase.startswith("runtime fake is absent: broken broken ")
    assert len(phrase) < 250


def test_a_board_that_was_never_probed_may_have_all_that_only_a_probe_tells() -> None:
    wide = selector.parse("family=jetson,generation=9,accelerator=dla,memory>=64GB")
    assert selector.why_not(wide, NEVER_PROBED, ["tensorrt"]) == []
    assert selector.why_not(replace(wide, tags=("ssd",)), NEVER_PROBED, ["tensorrt"]) == [
        "tag ssd is absent: it has {}"
    ]


def test_a_virtual_board_fits_only_where_the_selector_says_virtual() -> None:
    seen = ["is virtual, and the selector does not say virtual"]
    assert selector.why_not(ANY, VIRTUAL, []) == seen
    assert selector.why_not(Selector(name="virt-1"), VIRTUAL, []) == seen
    assert selector.why_not(Selector(virtual=True), VIRTUAL, []) == []
    assert selector.why_not(ANY, Board("tree", facts={"is_virtual": True}), []) == seen


def test_what_the_agent_says_of_a_raspberry_pi_5_fits(tmp_path: Path) -> None:
    root = plant(tmp_path, PI5)
    facts = {"identity": agent_board.identity(root), "context": agent_board.context(root)}
    board = Board("pi5-a", facts=facts)
    assert selector.why_not(selector.parse("family=raspberrypi,generation=5,memory>=8GB"), board, []) == []
    assert selector.why_not(selector.parse("memory>=16GB"), board, []) == ["memory is 8.44 GB, 16GB is asked"]


@pytest.mark.parametrize(
    "status",
    [
        BoardStatus(PI4, health=Health.GOOD),
        BoardStatus(PI4, health=Health.QUARANTINED),
        BoardStatus(PI4, state=BoardState.DRAINING),
        BoardStatus(PI4, state=BoardState.MAINTENANCE),
        BoardStatus(PI4, lease=Lease("pi4-a", 1, "w", 60.0, NOW)),
    ],
)
def test_a_board_that_is_away_for_now_is_reason_to_wait_not_to_refuse(status: BoardStatus) -> None:
    assert selector.missing(Selector(generation=4), [BoardStatus(VIRTUAL), status], ["onnxruntime"]) is None


def test_a_retired_board_serves_nobody() -> None:
    told = selector.missing(ANY, [BoardStatus(PI4, state=BoardState.RETIRED)], [])
    assert told is not None
    assert told.startswith("No board can ever serve 'any real board': the only board does not fit. pi4-a: is retired. ")


def test_a_refusal_tells_of_the_five_boards_that_lack_least() -> None:
    others = [BoardStatus(replace(PI4, name=f"pi4-{n}", tags=())) for n in range(6)]
    boards = [BoardStatus(VIRTUAL), *others, BoardStatus(PI4)]
    told = selector.missing(selector.parse("generation=5,tags>={active-cooler,lab}"), boards, ["onnxruntime"])
    assert told is not None
    head, _, tail = told.partition(" none fits. ")
    assert head == ("No board can ever serve 'generation=5,tags>={active-cooler,lab}' with onnxruntime: of 8 boards")
    nearest = tail.split(" | ")
    assert nearest[0] == "pi4-a: generation is 4, 5 is asked"
    assert [one.partition(":")[0] for one in nearest[1:5]] == ["pi4-0", "pi4-1", "pi4-2", "pi4-3"]
    assert nearest[5].startswith("3 more are no nearer. Ask for less with --on, or add such a board to inventory.yaml")


@pytest.mark.parametrize(("typed", "meant"), [("pi4a", "pi4-a"), ("virtul", "virtual")])
def test_a_mistyped_name_is_told_the_nearest(typed: str, meant: str) -> None:
    told = selector.missing(selector.parse(typed), [BoardStatus(PI4)], [])
    assert told is not None
    assert f"name is pi4-a, {typed} is asked. Did you mean '{meant}'? Ask for less" in told


def test_a_farm_without_boards_says_so() -> None:
    told = selector.missing(ANY, [], [])
    assert told is not None
    assert told.startswith("No board can ever serve 'any real board': there are no boards. ")


def test_the_thin_client_can_read_selectors() -> None:
    heavy = ["numpy", "scipy", "sqlalchemy", "asyncssh", "celery", "fastapi"]
    code = f"import sys; sys.modules.update(dict.fromkeys({heavy})); from farm import assign, selector"
    subprocess.run([sys.executable, "-c", code], check=True)
