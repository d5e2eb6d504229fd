"""Boards that reboot, that lose their network, that never answer, or that fail again and again."""

from __future__ import annotations

import os
import signal
import socket
from datetime import UTC, datetime

from farm.domain import Health
from farm.store import boards, queue
from tests.faults.conftest import processes_of
from tests.faults.farmhouse import Farmhouse, farm_template, house, until
from tests.faults.parts import PoweredBoard

__all__ = ["farm_template", "house"]


def test_a_board_that_reboots_in_the_middle_of_a_run_comes_back_and_its_job_is_done(house: Farmhouse) -> None:
    board = PoweredBoard("pi-1", house.folder / "pi-1", house.stack)
    house.save_board(board.power_on())
    house.pin(board.known_hosts)
    job = house.submit(duration_s=2.0)
    house.worker()
    house.dispatch_often()
    house.until_told(job, "timed")
    board.power_off()
    assert not processes_of(board.home)
    until(lambda: house.runs(job)[0]["outcome"], "the run ends")
    board.power_on()
    assert house.until_over(job) == ["OK"]
    first, *_, last = house.runs(job)
    assert (first["outcome"], first["reasons"][0]["code"]) == ("BROKEN", "connection_lost")
    assert last["outcome"] == "OK"
    house.check(board.home)


def test_a_connection_cut_in_the_middle_of_an_upload_leaves_no_half_a_file_in_use(house: Farmhouse) -> None:
    host = house.add_board("pi-1")
    warm = house.submit()
    house.worker()
    house.dispatch_often()
    assert house.until_over(warm) == ["OK"]
    host.proxy.cut_after_upload(8 << 20)
    job = house.submit(house.large_model())
    until(lambda: any(run["outcome"] for run in house.runs(job)), "the first run ends")
    host.proxy.cut_after_upload(1 << 40)
    assert house.until_over(job) == ["OK"]
    first, *_, last = house.runs(job)
    assert (first["outcome"], first["blame"], first["reasons"][0]["code"]) == ("BROKEN", "farm", "connection_lost")
    assert last["outcome"] == "OK"
    house.check()


def test_a_connection_cut_in_the_middle_of_a_run_has_its_job_tried_again_and_the_agent_gone(house: Farmhouse) -> None:
    host = house.add_board("pi-1")
    job = house.submit(duration_s=2.0)
    house.worker()
    house.dispatch_often()
    house.until_told(job, "timed")
    host.proxy.cut()
    until(lambda: not host.agents(), "the agent is gone from the board")
    assert house.until_over(job) == ["OK"]
    assert [run["outcome"] for run in house.runs(job)] == ["BROKEN", "OK"]
    assert house.runs(job)[0]["blame"] == "farm"
    house.check()


def test_three_failures_in_a_row_that_are_the_boards_doing_quarantine_it_and_the_others_go_on(
    house: Farmhouse,
) -> None:
    bad = house.add_board("bad")
    house.add_board("good")
    house.worker()
    house.dispatch_often()
    for failures in (1, 2, 3):
        job = house.submit(on="bad", duration_s=2.0)
        house.until_told(job, "hello")
        os.kill(until(bad.agents, "an agent on the board")[0], signal.SIGKILL)
        house.until_blamed("bad", failures)
        if failures < 3:
            queue.cancel(house.store, job, by="tests", now=datetime.now(UTC))
    assert house.sql("SELECT health FROM board WHERE name = 'bad'") == [{"health": "quarantined"}]
    assert len(house.sql("SELECT 1 FROM change WHERE action = 'board.quarantined' AND subject = 'bad'")) == 1
    other = house.submit()
    assert house.until_over(other) == ["OK"]
    assert [run["board"] for run in house.runs(other)] == ["good"]
    assert [run["outcome"] for run in house.runs(job)] == ["BROKEN"]
    boards.set_health(house.store, "bad", Health.UNKNOWN, note="mended", by="tests", now=datetime.now(UTC))
    assert house.until_over(job) == ["OK"]
    house.check()


def test_boards_that_never_answer_hold_up_nobody_else(house: Farmhouse) -> None:
    host = house.add_board("pi-1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hung = []
        for name in ("hung-1", "hung-2"):
            house.save_board(host.at(name, silent.getsockname()[1]))
            hung.append(house.submit(on=name))
        house.worker(FARM_CONNECT_TIMEOUT_S="600", FARM_SLOTS="3")
        house.dispatch_often()
        for job in hung:
            house.until_told(job, "connect")
        assert house.until_over(house.submit(on="pi-1"), house.submit(on="pi-1")) == ["OK", "OK"]
        assert [house.job(job)["state"] for job in hung] == ["running", "running"]
        for job in hung:
            queue.cancel(house.store, job, by="tests", now=datetime.now(UTC))
        assert house.until_over(*hung) == ["CANCELLED", "CANCELLED"]
    house.check()
