"""Documents as a real Run gives them, seeded; tests change what they test."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

import numpy as np
from farm_dashboards import documents, render

HOSTILE = (
    "a$b$\\frac{1}{0}<svg onload='x'>&\x00\x1b[31m\u202eevil\n漢字🚀 e\u0301\u0301\u0301 שלום \ud800 " + "W" * 10_000
)


def run(*, processes: int = 5, n: int = 100, outcome: str | None = "OK", sensors: bool = True) -> dict[str, Any]:
    """A `run` Document: MobileNetV2 on a board with two thermal zones and one clock."""
    rng = np.random.default_rng(1)
    blocks, cpu, gpu, clock, end_s = [], [], [], [], 0.0
    for i in range(processes):
        warmup_ns = 3.6e6 * (1 + 2 * np.exp(-np.arange(12) / 2))
        latency_ns = 3.6e6 * rng.gamma(400, 1 / 400, n) * (1 + 0.01 * i)
        warmup_s = end_s + np.cumsum(warmup_ns) / 1e9
        t_s = warmup_s[-1] + np.cumsum(latency_ns) / 1e9
        blocks.append(documents.latency_block(i, "a", t_s, latency_ns, warmup_s, warmup_ns))
        sampled_s = np.arange(end_s, t_s[-1] if n else end_s + 1, 0.1)
        cpu.append(documents.sensor_block(i, sampled_s, 45 + i + np.linspace(0, 3, len(sampled_s))))
        gpu.append(documents.sensor_block(i, sampled_s, 41 + i + np.linspace(0, 3, len(sampled_s))))
        clock.append(documents.sensor_block(i, sampled_s, np.full(len(sampled_s), 2.4e9)))
        end_s = float(sampled_s[-1]) + 0.9
    named = {"cpu.temp_c": cpu, "gpu.temp_c": gpu, "policy0.freq_hz": clock} if sensors else {}
    reasons = [] if outcome == "OK" else [{"code": "throttled", "text": "CPU at 1500 MHz, locked to 2400 MHz."}]
    return {
        "version": 1,
        "kind": "run",
        "id": "0197a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b",
        "model": "mobilenet_v2",
        "outcome": outcome,
        "reasons": reasons,
        "board": "pi5-1",
        "is_virtual": False,
        "artifact": {"name": "mobilenet_v2.onnx", "sha256": "1a2b3c4d5e6f" + "0" * 52, "size_bytes": 13_963_985},
        "plan": "single_stream, 10 s, 5 processes, cold cache, onnxruntime 1.31.1",
        "started_at": "2025-11-21T07:43:12+00:00",
        "fingerprint": "f00dfeed" * 8,
        "latency": {"blocks": blocks},
        "sensors": [{"metric": metric, "blocks": read} for metric, read in named.items()],
        "summaries": [
            summary("p50_latency_ns", 3_612_345, 3_580_000, 3_690_000),
            summary("p95_latency_ns", 3_991_000, 3_900_000, 4_050_000),
            summary("p99_latency_ns", None, reason="needs 459"),
            summary("throughput_per_s", 274.1, 260.0, 281.0),
            summary("cold_load_rss_bytes", 89_812_992, 89_700_000, 89_900_000),
        ],
        "memory": memory(),
        "context": {"commit": "abc"},
    }


def compare(runs: int = 2, *, comparable: bool = True) -> dict[str, Any]:
    """A `compare` Document: each Run a tenth slower and larger than the last."""
    compared = []
    for i in range(runs):
        factor = 1 + i / 10
        curves = [documents.ecdf(factor * np.linspace(3.4e6, 3.9e6 + 1e5 * k, 50)) for k in range(5)]
        compared.append(
            {
                "id": f"0197a1b2-0000-7000-8000-00000000000{i}",
                "label": f"{'abcdef'[i]}: mobilenet_v2 on pi5-{i}",
                "model": "mobilenet_v2",
                "outcome": "OK",
                "reasons": [],
                "board": f"pi5-{i}",
                "is_virtual": False,
                "fingerprint": "f0" * 32 if comparable else f"f{i}" * 32,
                "ecdfs": curves,
                "memory": memory(factor),
            }
        )
    differences = [{"field": "runtime.version", "values": ["1.31.1", "1.30.0", None, "1.29.0", "1.28", "1.27"][:runs]}]
    metrics = {"p50_latency_ns": 3.6e6, "p99_latency_ns": 4.2e6, "cold_load_rss_bytes": 90e6}
    return {
        "version": 1,
        "kind": "compare",
        "runs": compared,
        "comparable": comparable,
        "differences": [] if comparable else differences,
        "metrics": [
            {"metric": metric, "runs": [compared_value(first, 1 + i / 10) for i in range(runs)]}
            for metric, first in metrics.items()
        ],
    }


def memory(factor: float = 1.0) -> dict[str, Any]:
    """Memory of the five stages, in MB of anonymous and file-backed pages."""
    sizes = {"interpreter": (4, 6), "runtime": (20, 24), "load": (53, 30), "first": (56, 32), "steady": (58, 32)}
    stages = [
        {
            "stage": name,
            "anon_bytes": factor * anon * 1e6,
            "file_bytes": factor * file * 1e6,
            "swap_bytes": 0.0,
            "rss_bytes": factor * (anon + file) * 1e6,
            "peak_bytes": factor * (anon + file + 1) * 1e6,
            "peak_is_running": False,
        }
        for name, (anon, file) in sizes.items()
    ]
    return {"stages": stages, "cold_load_rss_bytes": factor * 89_812_992}


def summary(
    metric: str, value: float | None, low: float | None = None, high: float | None = None, reason: str | None = None
) -> dict[str, Any]:
    """One figure over a Run's Blocks."""
    return {"metric": metric, "value": value, "n": 300, "processes": 5, "low": low, "high": high, "reason": reason}


def compared_value(first: float, ratio: float) -> dict[str, Any]:
    """One figure of one compared Run."""
    value = first * ratio
    return {"value": value, "low": value * 0.98, "high": value * 1.03, "first_ratio": ratio, "reason": None}


def by_kind(kind: str) -> dict[str, Any]:
    """The sample of one kind of Document."""
    return {"run": run, "compare": compare}[kind]()


def texts(document: dict[str, Any], **options: Any) -> list[str]:
    """Every text that the Document's figure shows, read back from its SVG."""
    root = ElementTree.fromstring(render.render(document, format="svg", **options))
    return ["".join(found.itertext()) for found in root.iter("{http://www.w3.org/2000/svg}text")]
