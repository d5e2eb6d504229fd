"""The OpenAPI document holds: whatever it allows and whatever it forbids, no answer is a 5xx or of another shape."""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from farm.store.db import open_store
from tests.farm.api import gates
from tests.farm.api.live import MODEL_SHA, Live, serve
from tests.farm.store import nouns

EXAMPLES = 5
NEGATIVE, POSITIVE = GenerationMode.NEGATIVE, GenerationMode.POSITIVE
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def populated(
    tmp_path_factory: pytest.TempPathFactory, _sqlite_template: Path
) -> Iterator[tuple[Live, dict[str, str]]]:
    """A farm in which there is something of everything, and the names of these by the words in paths."""
    folder = tmp_path_factory.mktemp("schema")
    shutil.copy(_sqlite_template, folder / "farm.db")
    store = open_store(f"sqlite:///{folder}/farm.db", folder / "blobs", upgrade=False)
    with serve(store, folder) as api:
        job_id = api.submit("admin")["id"]
        gates.a_baseline(api, job_id, "pi5-a")
        api.client("admin").post(f"/jobs/{job_id}/cancel")  # so that its events end
        names = {
            "job_id": job_id,
            "run_id": nouns.a_started_run(store).id,
            "sha256": MODEL_SHA,
            "name": "pi5-a",
            "model": "mobilenet",
            "worker_id": "lab1:7:ab",
            "token_id": api.client("audio-ci").get("/tokens/self").json()["id"],
        }
        yield api, names
    store.close()


@pytest.mark.parametrize(
    ("mode", "is_real"),
    [(NEGATIVE, False), (POSITIVE, False), (POSITIVE, True)],
)
def test_no_request_ends_in_a_server_error_or_an_answer_of_another_shape(
    populated: tuple[Live, dict[str, str]], mode: GenerationMode, is_real: bool
) -> None:
    api, names = populated
    document = schemathesis.openapi.from_url(f"{api.url}/api/v1/openapi.json")
    headers = {"Authorization": f"Bearer {api.secrets['admin']}"}
    codes: Counter[int] = Counter()
    for found in document.get_all_operations():
        operation: Any = found.ok()  # type: ignore[union-attr]
        words = {word: name for word, name in names.items() if f"{{{word}}}" in operation.path}
        if is_real and not words:
            continue
        cases = operation.as_strategy(generation_mode=mode, path_parameters=words if is_real else None)

        @seed(3)
        @settings(
            max_examples=EXAMPLES, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
        )
        @given(case=cases)
        def holds(case: Any) -> None:
            answer = case.call_and_validate(headers=headers, checks=CHECKS, timeout=20)
            codes[answer.status_code] += 1

        with contextlib.suppress(Unsatisfiable):  # nothing of it can be wrong
            holds()
    reached = {422, 404} if mode is NEGATIVE else {200, 201, 409, 422} if is_real else {200, 404, 422}
    assert reached <= set(codes), codes
