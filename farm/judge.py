"""VERB 4: evidence -> summaries. A Run is summarized whatever its Outcome; its Verdict the Gate has decided."""

from __future__ import annotations

from farm import domain
from farm.figures import scalars
from farm.stats import summary
from farm.store import results
from farm.store.db import Store


def run(run_id: str, *, store: Store) -> list[domain.Summary]:
    """Summarize a Run from its stored Samples, save the Summaries and return them. Doing it again changes nothing.

    Blocks that did not end (FAILED, BROKEN, CANCELLED) are left out; those of a NOISY Run are summarized all the same.
    Of a Job with a Gate it is the candidate that is summarized, without its warm-up: the first pair of the Run.
    """
    found = results.blocks_of(store, run_id)
    candidate = min((block.arm for block in found), default="")  # it has the first letter
    warm_up = min((block.pair for block in found if block.pair >= 0), default=None)  # a plain Run has no pairs
    blocks = [
        block
        for block in found
        if block.arm == candidate
        and block.pair != warm_up
        and block.outcome in (domain.Outcome.OK, domain.Outcome.NOISY)
    ]
    latencies = {
        block.index: column.value
        for block in blocks
        for column in results.samples_of(store, run_id, block.index, "latency_ns")
    }
    windows = {
        block.index: (len(latencies[block.index]), int(block.facts.get("timed_ns") or 0))
        for block in blocks
        if block.index in latencies
    }
    summaries: list[domain.Summary] = []
    if latencies:
        summaries += summary.summarize_samples(latencies)
        summaries += summary.summarize_throughput(windows)
    if blocks:
        figures = [scalars(block) for block in blocks]
        names = list(dict.fromkeys(name for found in figures for name in found))
        summaries += summary.summarize_scalars({name: [found.get(name) for found in figures] for name in names})
    results.save_summaries(store, run_id, summaries)
    return summaries
