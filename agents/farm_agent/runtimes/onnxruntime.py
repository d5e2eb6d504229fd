"""ONNX Runtime, by its Python package and I/O binding with preallocated inputs and outputs.

    runtime: onnxruntime
    options: {threads: 4, providers: [CPUExecutionProvider], graph_optimization: all}

Source: https://onnxruntime.ai/docs/api/python/api_summary.html. Verified on: board (x86-64 Linux, CPU provider, 1.31).

A provider that this build lacks is refused. One that it has but cannot start is replaced by the CPU: ONNX Runtime only
prints that, so the providers in use are compared with those asked for and the difference is stored as `fallback`.
Outputs with fixed shapes are written to preallocated arrays; others are allocated by each query, as the C API does.
Its telemetry is on in recent wheels and is only off where the environment says so before import.
"""

from __future__ import annotations

import os
from functools import partial

from farm_agent.runtime import Absent, LoadError, Option, OptionError, Port, kind_of, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple

    from farm_agent.runtime import Choose

CPU = "CPUExecutionProvider"
OPTIONS = (
    Option("threads", "int", 1, "intra-op threads", at_least=1),
    Option("inter_op_threads", "int", 1, "inter-op threads", at_least=1),
    Option("providers", "names", [CPU], "execution providers, in order of preference"),
    Option("provider_options", "mapping", {}, "options by provider, such as {CUDAExecutionProvider: {device_id: 0}}"),
    Option(
        "graph_optimization", "str", "all", "graph optimization level", choices=("all", "extended", "basic", "disabled")
    ),
    Option("memory_pattern", "bool", True, "plan activations as one block after the first run"),
    Option("arena", "bool", True, "CPU memory arena"),
    Option("spinning", "bool", True, "idle threads of the pool spin before they sleep; no effect with one thread"),
)
SUFFIXES = (".onnx", ".ort")
_LEVELS = {
    "all": "ORT_ENABLE_ALL",
    "extended": "ORT_ENABLE_EXTENDED",
    "basic": "ORT_ENABLE_BASIC",
    "disabled": "ORT_DISABLE_ALL",
}
_DTYPES = {
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(bool)": "bool",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(int16)": "int16",
    "tensor(uint16)": "uint16",
    "tensor(int32)": "int32",
    "tensor(uint32)": "uint32",
    "tensor(int64)": "int64",
    "tensor(uint64)": "uint64",
}
_INSTALL = "Install it for the board's Python: pip install onnxruntime"


def probe() -> Dict[str, Any]:
    """Version, build and providers, by importing it; absent with the reason where that fails."""
    try:
        import onnxruntime
    except Exception as error:  # noqa: BLE001 - a broken wheel raises whatever it likes
        return {"present": False, "reason": f"{text_of(error)}. {_INSTALL}"}
    return {
        "present": True,
        "version": onnxruntime.__version__,
        "build": _build(onnxruntime),
        "providers": list(onnxruntime.get_available_providers()),
    }


def start() -> None:
    """Import the library. Raises Absent."""
    try:
        import onnxruntime  # noqa: F401
    except Exception as error:  # noqa: BLE001 - as in probe
        raise Absent(f"runtime 'onnxruntime' does not import here: {text_of(error)}. {_INSTALL}") from None


def load(path: str, options: Mapping[str, Any], choose: Choose) -> OrtModel:
    """A session for the file, opened by path. Raises LoadError, OptionError, FeedError."""
    import onnxruntime

    asked = _checked_providers(options, onnxruntime.get_available_providers())
    settings = _session_options(onnxruntime, options)
    by_provider = [dict(options["provider_options"].get(name, {})) for name in asked]
    try:
        session = onnxruntime.InferenceSession(
            path,
            settings,
            providers=asked,
            provider_options=by_provider,
            # its retry on the CPU makes no sense where the CPU is what failed
            enable_fallback=int(asked != [CPU]),
        )
    except Exception as error:  # noqa: BLE001 - the plug-in's edge: what a hostile file makes the library raise
        raise LoadError(text_of(error), kind_of(error, "load_error")) from None
    session.disable_fallback()
    ports = [Port(port.name, _DTYPES.get(port.type, port.type), port.shape) for port in session.get_inputs()]
    return OrtModel(session, ports, choose(ports), options)


def _checked_providers(options: Mapping[str, Any], available: Sequence[str]) -> List[str]:
    asked = list(options["providers"]) or [CPU]
    for name in [*asked, *options["provider_options"]]:
        if name not in available:
            raise OptionError(
                f"runtime 'onnxruntime' has no provider {name!r} in the build on this board; "
                f"it has {', '.join(available)}. "
                "Choose one of these, or install a build that has it."
            )
    for name, values in options["provider_options"].items():
        if name not in asked or not isinstance(values, dict):
            raise OptionError(
                f"provider_options[{name!r}] is {values!r:.80}; a mapping for one of {', '.join(asked)} is needed."
            )
    return asked


def _session_options(onnxruntime: Any, options: Mapping[str, Any]) -> Any:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options["threads"]
    settings.inter_op_num_threads = options["inter_op_threads"]
    settings.graph_optimization_level = getattr(
        onnxruntime.GraphOptimizationLevel, _LEVELS[options["graph_optimization"]]
    )
    settings.enable_mem_pattern = options["memory_pattern"]
    settings.enable_cpu_mem_arena = options["arena"]
    settings.add_session_config_entry("session.intra_op.allow_spinning", "1" if options["spinning"] else "0")
    return settings


def _build(onnxruntime: Any) -> str:
    build = getattr(onnxruntime, "get_build_info", None)  # since 1.12
    return str(build()) if build else ""


def used_providers(asked: Sequence[str], used: Sequence[str]) -> Dict[str, Any]:
    """The fact `providers`: what was asked for, what the session has, and whether that is a silent fallback."""
    missing = [name for name in asked if name not in used]
    note = f"{', '.join(missing)} did not start; stderr and stdout may say why" if missing else ""
    return {"asked": list(asked), "used": list(used), "fallback": bool(missing), "note": note}


class OrtModel:
    """A session with its inputs, and what outputs allow it, bound to arrays that live as long as it does."""

    def __init__(
        self, session: Any, ports: Sequence[Port], shapes: Mapping[str, Tuple[int, ...]], options: Mapping[str, Any]
    ) -> None:
        self.inputs = tuple(ports)
        self.invoke: Callable[[], Any] = lambda: None
        self._session = session
        self._shapes = shapes
        self._options = options
        self._used = session.get_providers()
        self._sources: Dict[str, Any] = {}
        self._bound: Dict[str, Any] = {}
        self._written: Dict[str, Any] = {}  # output name -> the preallocated OrtValue it is written to
        self._results: List[Any] = []
        self._ports = session.get_outputs()
        self._is_bindable = all(
            port.type.startswith("tensor(") and port.type != "tensor(string)" for port in self._ports
        )

    def bind(self, arrays: Mapping[str, Any]) -> None:
        """Bind the inputs; the outputs are left to ONNX Runtime until `settle`."""
        self._sources = dict(arrays)
        if not self._is_bindable:
            self.invoke = self._run
            return
        self._binding = self._session.io_binding()
        for name, array in arrays.items():
            self._bound[name] = array.copy()
            self._binding.bind_cpu_input(name, self._bound[name])
        for port in self._ports:
            self._binding.bind_output(port.name)
        # a partial has no Python frame of its own
        self.invoke = partial(self._session.run_with_iobinding, self._binding)

    def settle(self) -> None:
        """Preallocate the outputs whose shape cannot change: those that the first inference made as declared."""
        if not self._is_bindable:
            return
        import onnxruntime

        named = _named_sizes(self.inputs, self._shapes)
        results = self._binding.get_outputs()
        for port, result in zip(self._ports, results):
            declared = [dim if isinstance(dim, int) else named.get(dim) for dim in port.shape]
            if declared == list(result.shape()) and port.type in _DTYPES:
                self._written[port.name] = onnxruntime.OrtValue.ortvalue_from_numpy(result.numpy())
        self._binding.clear_binding_outputs()
        for port in self._ports:
            if port.name in self._written:
                self._binding.bind_ortvalue_output(port.name, self._written[port.name])
            else:
                self._binding.bind_output(port.name)

    def copy_in(self) -> None:
        """Copy each input into its bound array, and that to the device where the provider has one."""
        for name, array in self._bound.items():
            array[...] = self._sources[name]
            if self._used != [CPU]:  # another provider may have copied it to its device when it was bound
                self._binding.bind_cpu_input(name, array)

    def copy_out(self) -> None:
        """Copy each output to an array of its own."""
        if self._is_bindable:
            self._results = self._binding.copy_outputs_to_cpu()

    def outputs(self) -> List[Tuple[str, Any]]:
        """(name, array) of the last inference; what numpy cannot hold as it is."""
        if self._is_bindable:
            return [(port.name, _numpy_of(value)) for port, value in zip(self._ports, self._binding.get_outputs())]
        return [(port.name, value) for port, value in zip(self._ports, self._results)]

    def facts(self) -> Dict[str, Any]:
        """As every Model. Read after timing: it looks at more than the timed queries need."""
        import onnxruntime

        api = f"iobinding, {len(self._written)} of {len(self._ports)} outputs preallocated"
        return {
            "runtime": {
                "name": "onnxruntime",
                "version": onnxruntime.__version__,
                "build": _build(onnxruntime),
                "library": os.path.dirname(onnxruntime.__file__),
                "telemetry_off": os.environ.get("ORT_DISABLE_TELEMETRY") == "1",
            },
            "providers": used_providers(self._options["providers"] or [CPU], self._used),
            "threads": self._options["threads"],
            "harness": {
                "api": api if self._is_bindable else "session.run",
                "overhead_note": f"about {'2.5' if self._is_bindable else '5'} us a query over the C API on x86-64",
            },
        }

    def _run(self) -> None:
        self._results = self._session.run(None, self._sources)


def _named_sizes(ports: Sequence[Port], shapes: Mapping[str, Tuple[int, ...]]) -> Dict[Any, int]:
    sizes = {}
    for port in ports:
        for dim, size in zip(port.shape, shapes[port.name]):
            if isinstance(dim, str):
                sizes[dim] = size
    return sizes


def _numpy_of(value: Any) -> Any:
    try:
        return value.numpy()
    except RuntimeError:  # types that numpy lacks, such as bfloat16
        return value
