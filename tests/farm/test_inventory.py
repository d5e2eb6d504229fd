"""inventory.yaml: every mistake is reported, each with its line; a good one becomes Boards."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm import inventory
from farm.domain import Board
from farm.errors import InventoryError


def mistakes_of(text: str | bytes) -> list[str]:
    """The lines that the error says, without the first."""
    with pytest.raises(InventoryError) as caught:
        inventory.parse(text, "inv.yaml")
    return str(caught.value).split("\n")[1:]


def of_board(*lines: str) -> str:
    """An inventory with one board of these lines; the first is line 3."""
    return "version: 1\nboards:\n  - " + "\n    ".join(lines) + "\n"


def test_every_mistake_is_reported_at_once_and_in_order() -> None:
    text = of_board("name: Pi", "adress: x", "tags: fast", "start_temp_c: hot", "virtual: perhaps")
    assert [line.split(": ")[0] for line in mistakes_of(text)] == [f"inv.yaml:{n}" for n in (3, 4, 5, 6, 7)]


def test_the_message_counts_the_mistakes_and_names_the_file() -> None:
    with pytest.raises(InventoryError, match=r"^Inventory inv\.yaml has 2 mistakes:\n"):
        inventory.parse("version: 1\nbords: []\n", "inv.yaml")


def test_an_unknown_key_is_shown_with_the_nearest_known_one() -> None:
    (line,) = mistakes_of(of_board("name: pi", "adress: a@b"))
    assert line.startswith("inv.yaml:4: board 'pi': unknown key 'adress'; did you mean 'address'? Known: address, ")


def test_two_boards_of_one_name_are_refused_at_the_second() -> None:
    text = "version: 1\nboards:\n  - name: a\n  - name: b\n  - name: a\n"
    assert mistakes_of(text) == [
        "inv.yaml:5: board 'a': line 3 gave this name already. Give each board its own.",
    ]


def test_a_key_given_twice_is_refused() -> None:
    assert mistakes_of(of_board("name: a", "site: x", "site: y")) == [
        "inv.yaml:5: board 'a': line 4 gave the key 'site' already. Keep one of them.",
    ]


@pytest.mark.parametrize("name", ["Pi", "pi 5", "../pi", "-pi", "pi.lan", "", "ü", "a" * 64, "12", "on", "pi\\n"])
def test_a_name_that_is_not_safe_is_refused(name: str) -> None:
    assert "inv.yaml:3: board" in mistakes_of(of_board(f"name: {name}" if name != "pi\\n" else 'name: "pi\\n"'))[0]


def test_a_number_where_a_text_is_needed_asks_for_quotes() -> None:
    assert mistakes_of(of_board("name: a", "python: 3.9")) == [
        "inv.yaml:4: board 'a': python is '3.9'; a text is needed. If it is one, put it in quotes.",
    ]


@pytest.mark.parametrize(
    "address", ["bench@", "@host", "a b", "bench@host:0", "bench@host:65536", "::1", "-oX=y", "a@b@c"]
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    (line,) = mistakes_of(of_board("name: a", "transport: ssh", f'address: "{address}"'))
    assert line.startswith("inv.yaml:5: board 'a': address is ")


def test_a_board_over_ssh_needs_an_address() -> None:
    (line,) = mistakes_of(of_board("name: a", "transport: ssh"))
    assert line == "inv.yaml:3: board 'a': `address` is missing, which transport ssh needs. Add [user@]host[:port]."


def test_an_address_without_ssh_is_refused() -> None:
    (line,) = mistakes_of(of_board("name: a", "address: bench@host"))
    assert line.startswith("inv.yaml:4: board 'a': address means nothing to transport local.")


def test_an_unknown_transport_is_shown_with_the_known_ones() -> None:
    (line,) = mistakes_of(of_board("name: a", "transport: shs", "address: bench@host"))
    assert line.endswith("transport is 'shs'; there is no such transport; did you mean 'ssh'? Known: local, ssh.")


@pytest.mark.parametrize("option", ["StrictHostKeyChecking: no", "known_hosts: null", "check_host_key: false"])
def test_no_option_turns_the_check_of_host_keys_off(option: str) -> None:
    text = of_board("name: a", "transport: ssh", "address: bench@host", f"options: {{{option}}}")
    (line,) = mistakes_of(text)
    assert f"transport ssh has no option '{option.split(':')[0]}'" in line


def test_an_unknown_sensor_is_refused() -> None:
    (line,) = mistakes_of(of_board("name: a", "sensors:", "  termal: {}"))
    assert line.startswith(
        "inv.yaml:5: board 'a': sensors is 'termal'; there is no such sensor; did you mean 'thermal'?"
    )


def test_a_recorded_tree_is_for_virtual_boards_only() -> None:
    (line,) = mistakes_of(of_board("name: a", "root: /srv/tree"))
    assert line == (
        "inv.yaml:4: board 'a': root is '/srv/tree', but only a virtual board has a root. Add `virtual: true`."
    )


@pytest.mark.parametrize("host", ["10.0.0.5", "pi.lan", "127.evil.example", "localhost.evil.example"])
def test_a_virtual_board_is_on_loopback(host: str) -> None:
    text = of_board("name: a", "transport: ssh", f"address: bench@{host}", "virtual: true")
    (line,) = mistakes_of(text)
    assert line.startswith("inv.yaml:5: board 'a': address is ")


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("version: 1\nboards:\n  - {name: a", 3, "this is not YAML"),
        ("version: 1\n\tboards: []", 2, "this is not YAML"),
        ("", 1, "holds nothing"),
        ("version: 1\n---\nversion: 1\n", 1, "holds 2 documents"),
        ("just words", 1, "'just words' is here"),
        ("version: 1\nboards: []\n", 2, "`boards` is an empty list"),
        ("version: 1\n", 1, "`boards` is missing"),
        ("boards: [{name: a}]\n", 1, "`version` is missing"),
        ("version: 2\nboards: [{name: a}]\n", 1, "version is '2'; this benchfarm reads version 1"),
        ("version: 1\nboards: [17]\n", 2, "'17' is here"),
        ("version: 1\nboards: &a [*a]\n", 2, "a list is here"),
        ("version: 1\nboards: [{? [x] : y, name: a}]\n", 2, "unknown key a list"),
        ("[" * 100_000, 1, "nested too deeply"),
        (b"\xff\xfe\xfd", 1, "this is not YAML"),
        (b"x" * 1_100_000, 1, "1100000 bytes"),
    ],
)
def test_a_text_that_is_no_inventory_is_refused_with_its_line(text: str | bytes, line: int, words: str) -> None:
    first = mistakes_of(text)[0]
    assert first.startswith(f"inv.yaml:{line}: ")
    assert words in first


def test_options_that_refer_to_themselves_are_refused() -> None:
    lines = mistakes_of(of_board("name: a", "transport: ssh", "address: host", "options: &x {keys: *x}"))
    assert lines == ["inv.yaml:6: board 'a': options is a mapping; at most 8 levels are read."]


def test_a_file_that_is_not_there_is_an_error_with_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match=r"No such file or directory.*\nversion: 1\nboards:\n  - name: local"):
        inventory.load(tmp_path / "none.yaml")


def test_without_an_inventory_there_is_one_board_this_machine() -> None:
    assert inventory.load(None) == (Board(name="local", transport="local"),)


def test_the_inventory_of_the_project_has_the_board_local() -> None:
    path = Path(__file__).parents[2] / "inventory.yaml"
    assert [(board.name, board.transport) for board in inventory.load(path)] == [("local", "local")]


def test_a_whole_board_is_read_as_written(tmp_path: Path) -> None:
    path = tmp_path / "inventory.yaml"
    path.write_text(
        """
version: 1
boards:
  - name: pi5-a
    transport: ssh
    address: bench@[fe80::1]:2222
    site: attic
    python: /opt/venv/bin/python
    home: ~/.benchfarm
    tags: [active-cooler, ssd]
    sensors:
      thermal:
      psi: {}
    start_temp_c: 50
    options:
      keys: [~/.ssh/farm]
  - name: recorded
    virtual: true
    root: /srv/trees/pi5
"""
    )
    assert inventory.load(path) == (
        Board(
            name="pi5-a",
            transport="ssh",
            address="bench@[fe80::1]:2222",
            site="attic",
            python="/opt/venv/bin/python",
            home="~/.benchfarm",
            tags=("active-cooler", "ssd"),
            sensors={"thermal": {}, "psi": {}},
            start_temp_c=50.0,
            options={"keys": ["~/.ssh/farm"]},
        ),
        Board(name="recorded", is_virtual=True, root="/srv/trees/pi5"),
    )


def test_the_example_in_the_documentation_is_a_good_inventory() -> None:
    assert inventory.__doc__ is not None
    example = inventory.__doc__.split("line number.\n")[1].split("Only `name`")[0]
    assert [board.name for board in inventory.parse(example, "doc")] == ["pi5-a", "pi5-recorded"]
