"""A loop around a runtime with nothing of benchfarm in it: what fidelity compares our numbers with.

python -I plain_loop.py MODEL SECONDS WARMUP_SECONDS CPU     prints {"p50_ns": …, "n": …, "hwm_bytes": …}
"""

from __future__ import annotations

import json
import os
import sys
import time


def main() -> None:
    model, seconds, warmup_s, cpu = sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    os.sched_setaffinity(0, {cpu})
    import numpy as np

    rng = np.random.default_rng(0)
    if model.endswith(".onnx"):
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        binding = session.io_binding()
        for port in session.get_inputs():
            shape = [dim if isinstance(dim, int) else 1 for dim in port.shape]
            array = rng.random(shape, dtype=np.float32) if "float" in port.type else np.zeros(shape, np.int64)
            binding.bind_ortvalue_input(port.name, ort.OrtValue.ortvalue_from_numpy(array))
        for port in session.get_outputs():
            binding.bind_output(port.name)
        session.run_with_iobinding(binding)
        outputs = binding.get_outputs()
        for port, value in zip(session.get_outputs(), outputs, strict=True):
            binding.bind_ortvalue_output(port.name, value)

        def query() -> None:
            session.run_with_iobinding(binding)
    else:
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_path=model, num_threads=1)
        interpreter.allocate_tensors()
        for detail in interpreter.get_input_details():
            if detail["dtype"] == np.float32:
                data = rng.random(detail["shape"], dtype=np.float32)
            else:
                data = rng.integers(-128, 128, detail["shape"]).astype(detail["dtype"])
            interpreter.set_tensor(detail["index"], data)
        query = interpreter.invoke

    clock = time.perf_counter_ns
    warm = clock() + int(warmup_s * 1e9)
    while clock() < warm:
        query()
    taken: list[int] = []
    end = clock() + int(seconds * 1e9)
    start = clock()
    while start < end:
        query()
        now = clock()
        taken.append(now - start)
        start = clock()
    taken.sort()
    with open("/proc/self/status") as status:
        hwm = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    print(json.dumps({"p50_ns": taken[(len(taken) + 1) // 2 - 1], "n": len(taken), "hwm_bytes": hwm}))


if __name__ == "__main__":
    main()
