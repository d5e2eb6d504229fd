"""LiteRT (formerly TensorFlow Lite), by its interpreter: the package ai-edge-litert, else the older tflite-runtime.

    runtime: litert
    options: {threads: 4, xnnpack: true}

Source: https://ai.google.dev/edge/api/tflite/python/tf/lite/Interpreter. Verified on: board (x86-64 Linux,
ai-edge-litert 2.3), tflite-runtime by its documentation only.

`invoke` alone is timed unless the Plan says end_to_end; the inputs are set once before, the outputs read once after.
Both packages decide by themselves what XNNPACK takes (tflite-runtime 2.14 leaves int8 models to its own, far slower
kernels), so the package, its version and the number of delegated parts are stored.
"""

from __future__ import annotations

import os

from farm_agent.runtime import Absent, FeedError, LoadError, Option, Port, kind_of, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Mapping, Optional, Tuple

    from farm_agent.runtime import Choose

OPTIONS = (
    Option("threads", "int", 1, "threads of the interpreter and its delegate", at_least=1),
    Option("xnnpack", "bool", True, "False: built-in kernels without the default delegate"),
)
SUFFIXES = (".tflite",)
_INSTALL = "Install one for the board's Python: pip install ai-edge-litert (or tflite-runtime)"

# y = x + x on float32[1, 4] as a TFLite flatbuffer, compressed. tflite-runtime 2.14 beside numpy 2 imports but fails at
# its first interpreter, so only a real model shows that the package works.
_TINY_MODEL = (
    "eNpdjzEOwjAUQ19ohkqNKoYOHbkDnIGJgaEDRym3ZeQWwUldiPiRE/1v+8uZgeV6O8PIxJFEr0lUhzqYhbfQCaEycMo5B/Pp64q6t9m97BQe9kyU"
    "GutbtEOzXzXsvtV7Cw78KjTA3MVZXvL0NcfGP83vWZN/hPO12vVPG8zHeuADxNwQ2A=="
)


def probe() -> Dict[str, Any]:
    """Package and version, by running a tiny model; absent with the reason where that fails."""
    import base64
    import zlib

    try:
        package, interpreter = _library()
        tiny = interpreter.Interpreter(model_content=zlib.decompress(base64.b64decode(_TINY_MODEL)))
        tiny.allocate_tensors()
        tiny.invoke()
    except Exception as error:  # noqa: BLE001 - whatever a broken or mismatched package raises
        return {"present": False, "reason": f"{text_of(error)}. {_INSTALL}"}
    return {"present": True, "version": package.__version__, "package": package.__name__}


def start() -> None:
    """Import the library. Raises Absent."""
    try:
        _library()
    except Exception as error:  # noqa: BLE001 - as in probe
        raise Absent(f"runtime 'litert' does not import here: {text_of(error)}. {_INSTALL}") from None


def load(path: str, options: Mapping[str, Any], choose: Choose) -> LitertModel:
    """An interpreter for the file, opened by path, its tensors allocated. Raises LoadError, FeedError."""
    _, library = _library()
    kinds = library.OpResolverType
    kind = kinds.AUTO if options["xnnpack"] else kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    try:
        interpreter = library.Interpreter(
            model_path=path, num_threads=options["threads"], experimental_op_resolver_type=kind
        )
        details = interpreter.get_input_details()
    except Exception as error:  # noqa: BLE001 - the plug-in's edge: what a hostile file makes the library raise
        raise LoadError(text_of(error), kind_of(error, "load_error")) from None
    ports = [Port(detail["name"], _dtype_name(detail["dtype"]), _declared(detail)) for detail in details]
    shapes = choose(ports)
    try:
        for port, detail in zip(ports, details):
            if list(shapes[port.name]) != [int(size) for size in detail["shape"]]:
                interpreter.resize_tensor_input(detail["index"], list(shapes[port.name]))
        interpreter.allocate_tensors()
    except Exception as error:  # noqa: BLE001 - the plug-in's edge: what a hostile file makes the library raise
        raise LoadError(text_of(error), kind_of(error, "load_error")) from None
    return LitertModel(interpreter, ports, options)


def _library() -> Tuple[Any, Any]:
    """(package, its interpreter module). Raises what the import of tflite-runtime raises where neither is there."""
    try:
        import ai_edge_litert as package
        import ai_edge_litert.interpreter as interpreter
    except ImportError as newer:
        try:
            import tflite_runtime as package
            import tflite_runtime.interpreter as interpreter
        except ImportError as older:
            raise ImportError(f"{newer}; {older}") from None
    return package, interpreter


def _dtype_name(dtype: Any) -> str:
    import numpy as np

    return str(np.dtype(dtype).name)


def _declared(detail: Mapping[str, Any]) -> List[Any]:
    signature = detail.get("shape_signature")
    if signature is None or len(signature) != len(detail["shape"]):
        signature = detail["shape"]
    return [int(size) if size >= 0 else None for size in signature]


class LitertModel:
    """An interpreter whose inputs are set once; holds no view of its tensors, which would forbid `invoke`."""

    def __init__(self, interpreter: Any, ports: List[Port], options: Mapping[str, Any]) -> None:
        self.inputs = tuple(ports)
        self.invoke = interpreter.invoke
        self._interpreter = interpreter
        self._options = options
        self._index = {detail["name"]: detail["index"] for detail in interpreter.get_input_details()}
        self._outputs = [(detail["name"], detail["index"]) for detail in interpreter.get_output_details()]
        self._arrays: List[Tuple[int, Any]] = []
        self._results: List[Any] = []

    def bind(self, arrays: Mapping[str, Any]) -> None:
        """Keep the inputs for `copy_in` and set them."""
        self._arrays = [(self._index[name], array) for name, array in arrays.items()]
        try:
            self.copy_in()
        except ValueError as error:
            raise FeedError(f"the model does not take its inputs: {error}. Bring an .npz, or plan.shapes.") from None

    def settle(self) -> None:
        """The interpreter has allocated everything already."""

    def copy_in(self) -> None:
        """Copy each input into its tensor."""
        for index, array in self._arrays:
            self._interpreter.set_tensor(index, array)

    def copy_out(self) -> None:
        """Copy each output out of its tensor."""
        self._results = [self._interpreter.get_tensor(index) for _, index in self._outputs]

    def outputs(self) -> List[Tuple[str, Any]]:
        """(name, array) of the last inference."""
        return [(name, self._interpreter.get_tensor(index)) for name, index in self._outputs]

    def facts(self) -> Dict[str, Any]:
        """As every Model. Read after timing."""
        package, _ = _library()
        delegates, nodes = _delegated(self._interpreter)
        asked = ["xnnpack", "cpu"] if self._options["xnnpack"] else ["cpu"]
        return {
            "runtime": {
                "name": "litert",
                "version": package.__version__,
                "build": package.__name__,
                "library": os.path.dirname(package.__file__),
            },
            "providers": used_providers(asked, delegates, nodes),
            "threads": self._options["threads"],
            "harness": {"api": "interpreter.invoke", "overhead_note": "0 to 1 us a query over the C API on x86-64"},
        }


def used_providers(asked: List[str], delegates: Optional[int], nodes: Optional[int]) -> Dict[str, Any]:
    """The fact `providers`; `delegates` and `nodes` are None where the package does not tell what was delegated."""
    if delegates is None:
        return {"asked": asked, "used": None, "fallback": False, "note": "this package does not tell what it delegated"}
    note = f"{delegates} delegated parts in a graph of {nodes} operators"
    return {
        "asked": asked,
        "used": ["xnnpack", "cpu"] if delegates else ["cpu"],
        "fallback": "xnnpack" in asked and not delegates,
        "note": note,
    }


def _delegated(interpreter: Any) -> Tuple[Optional[int], Optional[int]]:
    """(delegated parts, operators) of the graph; (None, None) where it cannot be read."""
    try:
        names = [detail["op_name"] for detail in interpreter._get_ops_details()]
    except Exception:  # noqa: BLE001 - a private call of the package: absent in some, and only a fact
        return None, None
    delegates = sum(name == "DELEGATE" for name in names)
    return delegates, len(names) - delegates
