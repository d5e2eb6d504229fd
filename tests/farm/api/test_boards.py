"""Boards, workers and Runs by HTTP."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from farm.domain import Board, BoardState, Health, Worker
from farm.store import boards, results, workers
from tests.farm.api.live import NOW, Live, problem
from tests.farm.store import nouns


@pytest.mark.parametrize(
    ("name", "asked", "seen"),
    [
        ("pi5-b", {"address": "-oProxyCommand=x"}, "[user@]host[:port] is needed"),
        ("pi5-b", {"address": "a b"}, "[user@]host[:port] is needed"),
        ("pi5-b", {"address": "h:99999"}, "[user@]host[:port] is needed"),
        ("pi5-b", {"address": "h", "tags": ["Two Words"]}, "lowercase letters"),
        ("pi5-b", {"address": "h", "site": "../x"}, "lowercase letters"),
        ("pi5-b", {"address": "h", "start_temp_c": 500}, "start_temp_c"),
        ("pi5-b", {"address": "h", "transport": "local"}, "transport"),
        ("pi5-b", {"address": "h", "root": "/tmp"}, "root"),
        ("pi5-b", {"address": "h\0"}, "address"),
        ("pi5-b", {}, "address"),
        ("PI 5", {"address": "h"}, "lowercase letters"),
    ],
)
def test_an_entry_that_inventory_yaml_could_not_hold_is_refused(
    shared: Live, name: str, asked: dict[str, Any], seen: str
) -> None:
    answer = shared.client("admin").put(f"/boards/{name}", json=asked)
    assert seen in problem(answer, 422, answer.json()["title"])
    assert [board.name for board in boards.list_boards(shared.store)] == ["pi5-a"]


def test_a_new_board_is_checked_before_it_is_given_out(each_api: Live) -> None:
    asked = {
        "address": "bench@10.0.0.6:2222",
        "site": "lab",
        "tags": ["ssd"],
        "start_temp_c": 45.5,
        "python": "/opt/py",
    }
    told = each_api.client("admin").put("/boards/pi5-b", json=asked).json()
    assert (told["state"], told["health"], told["address"]) == ("idle", "unknown", "bench@10.0.0.6:2222")
    stored = boards.get_board(each_api.store, "pi5-b")
    assert stored == Board(
        "pi5-b", transport="ssh", address="bench@10.0.0.6:2222", site="lab", tags=("ssd",), start_temp_c=45.5,
        python="/opt/py",
    )  # fmt: skip
    assert each_api.kicks == ["kick"]
    (change, *_) = each_api.client("admin").get("/changes").json()["changes"]
    assert (change["actor"], change["action"], change["subject"]) == ("admin", "board.save", "pi5-b")


def test_a_board_at_another_address_is_checked_anew_and_one_with_another_tag_is_not(api: Live) -> None:
    admin = api.client("admin")
    same = {"address": "bench@10.0.0.5:22", "site": "lab", "tags": ["fan"]}
    assert admin.put("/boards/pi5-a", json=same).json()["health"] == "good"
    told = admin.put("/boards/pi5-a", json={**same, "address": "bench@10.0.0.9"}).json()
    assert (told["health"], told["note"], told["tags"]) == ("unknown", "its entry was changed", ["fan"])


def test_what_only_inventory_yaml_may_say_of_a_board_stays(api: Live) -> None:
    boards.save_board(api.store, Board("here", transport="local"), NOW)
    boards.save_board(api.store, Board("virt-1", transport="ssh", address="127.0.0.1:2", is_virtual=True), NOW)
    options, sensors = {"keys": ["~/.ssh/id"]}, {"ina3221": {"rail": "VDD_IN"}}
    boards.save_board(api.store, Board("orin", "ssh", "h", options=options, sensors=sensors), NOW)
    admin = api.client("admin")
    for name in ("here", "virt-1"):
        answer = admin.put(f"/boards/{name}", json={"address": "bench@10.0.0.6"})
        assert "only inventory.yaml says" in problem(answer, 409, "Conflict")
    assert admin.put("/boards/orin", json={"address": "h", "tags": ["fan"]}).status_code == 200
    assert boards.get_board(api.store, "orin").options == options
    assert boards.get_board(api.store, "orin").sensors == sensors


def test_state_and_health_are_set_and_written_down(each_api: Live) -> None:
    admin = each_api.client("admin")
    admin.post("/boards/pi5-a/state", json={"state": "draining", "note": "new fan"})
    status = boards.status(each_api.store, "pi5-a")
    assert (status.state, status.note) == (BoardState.DRAINING, "new fan")
    admin.post("/boards/pi5-a/health", json={"health": "quarantined", "note": "smells"})
    assert boards.status(each_api.store, "pi5-a").health is Health.QUARANTINED
    changes = each_api.client("admin").get("/changes", params={"limit": 2}).json()["changes"]
    assert [(one["action"], one["actor"], one["data"]["to"]) for one in changes] == [
        ("board.health", "admin", "quarantined"),
        ("board.state", "admin", "draining"),
    ]
    problem(admin.post("/boards/pi5-a/health", json={"health": "good"}), 422, "InputError")
    problem(admin.post("/boards/nobody/state", json={"state": "ready"}), 404, "NotFound")
    problem(admin.get("/boards/nobody"), 404, "NotFound")


def test_a_board_tells_what_it_said_of_itself_and_who_has_it(api: Live) -> None:
    (told,) = api.client("admin").get("/boards").json()["boards"]
    assert told == {
        "name": "pi5-a", "site": "lab", "transport": "ssh", "address": "bench@10.0.0.5:22", "tags": ["ssd"],
        "virtual": False, "state": "idle", "health": "good", "failures": 0, "note": "", "next_check_at": None,
        "leased_since": None, "holder": None, "family": "raspberrypi", "model": "Raspberry Pi 5",
        "accelerators": ["hailo8l"], "memory_bytes": 8_000_000_000, "runtimes": ["fake"],
    }  # fmt: skip
    nouns.a_lease(api.store, boards.get_board(api.store, "pi5-a"))
    told = api.client("admin").get("/boards/pi5-a").json()
    assert (told["state"], told["holder"]) == ("leased", "ann@bench")
    assert told["leased_since"] == nouns.NOW.isoformat().replace("+00:00", "Z")


def test_a_worker_is_listed_and_drained(each_api: Live) -> None:
    workers.beat(each_api.store, Worker("lab1:8:cd", "lab", 4, NOW), NOW + timedelta(seconds=5))
    admin = each_api.client("admin")
    assert admin.post("/workers/lab1:8:cd/drain").status_code == 204
    found = admin.get("/workers").json()["workers"]
    assert [(one["id"], one["slots"], one["draining"]) for one in found] == [
        ("lab1:7:ab", 2, False),
        ("lab1:8:cd", 4, True),
    ]
    problem(admin.post("/workers/nobody/drain"), 404, "NotFound")


def test_runs_are_listed_and_shown(each_api: Live) -> None:
    run = nouns.a_started_run(each_api.store)
    results.finish_run(each_api.store, nouns.finished(run), run.token)
    client = each_api.client("vision-ci")
    for asked, n in (({}, 1), ({"board": "orin-3"}, 1), ({"board": "pi5-a"}, 0), ({"model": "mobilenet_v2_int8"}, 1)):
        assert len(client.get("/runs", params=asked).json()["runs"]) == n
    page = client.get("/runs", params={"limit": 1}).json()
    assert (page["runs"][0]["run"], page["runs"][0]["outcome"]) == (run.id, "OK")
    assert client.get("/runs", params={"limit": 1, "cursor": page["next"]}).json() == {"runs": [], "next": None}
    told = client.get(f"/runs/{run.id[:20]}").json()
    assert (told["run"], told["board"], told["fingerprint"]) == (run.id, "orin-3", "f" * 64)
    problem(client.get("/runs/ffffffff"), 404, "NotFound")
    job = client.get(f"/jobs/{run.job_id}").json()
    assert [one["id"] for one in job["runs"]] == [run.id]


def test_a_board_that_says_nonsense_of_itself_breaks_nothing(api: Live) -> None:
    for facts in (
        {"identity": 7},
        {"identity": {"accelerators": 3, "family": {"x": 1}}, "runtimes": [1]},
        {"context": None},
    ):
        boards.save_board(api.store, Board("odd", "ssh", "h", facts=facts), NOW)
        assert api.client("vision-ci").get("/boards/odd").json()["runtimes"] == []
