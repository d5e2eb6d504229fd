"""What a Runtime is: one file of runtimes/ that loads a model file and runs it. Nothing heavy is imported here.

A file of runtimes/ has

    OPTIONS: tuple of Option        what a Plan's `options` may say
    SUFFIXES: tuple of str          file names it loads, such as (".onnx",); the farm picks the runtime by them
    probe() -> dict                 {"present": True, "version": ..., ...} or {"present": False, "reason": ...}
    start() -> None                 import the library (stage `runtime`); raises Absent
    load(path, options, choose) -> Model    stage `load`; `choose(ports)` gives each input's shape; raises LoadError

and imports its library only inside functions, so that its options can be read where the library is not installed.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Mapping, Optional, Protocol, Sequence, Tuple, Union

    Dim = Union[int, str, None]  # a number; the name of a dynamic dimension; a dynamic dimension without a name
    Choose = Callable[[Sequence["Port"]], Mapping[str, Tuple[int, ...]]]

    class Model(Protocol):
        """A loaded model. One query = copy_in, invoke, copy_out; the Plan's latency_scope says which are timed."""

        inputs: Sequence[Port]
        invoke: Callable[[], Any]

        def bind(self, arrays: Mapping[str, Any]) -> None:
            """Take the input arrays, by name, in the chosen shapes; before the first inference."""

        def settle(self) -> None:
            """After the first inference: preallocate what only its shapes could tell. `invoke` may change."""

        def copy_in(self) -> None:
            """Copy the input arrays to where `invoke` reads them."""

        def copy_out(self) -> None:
            """Copy the outputs to where the caller may keep them."""

        def outputs(self) -> List[Tuple[str, Any]]:
            """(name, array) of the last inference; an array.array or another value where there is no numpy."""

        def facts(self) -> Dict[str, Any]:
            """runtime {name, version, build, library: its folder}, providers, threads, harness {api, overhead_note}."""


_OUT_OF_MEMORY = ("bad_alloc", "failed to allocate memory", "cannot allocate memory", "out of memory", "bad_array_new")
_UNSUPPORTED = ("NOT_IMPLEMENTED", "No Op registered", "is not a registered function/op", "unresolved custom op")


class Failure(Exception):
    """The subject cannot go on: `kind` is the reason's code, `blame` says who must act: artifact, input or board."""

    kind = "crash"
    blame = "board"

    def __init__(self, text: str, kind: str = "", blame: str = "") -> None:
        super().__init__(text)
        self.kind = kind or self.kind
        self.blame = blame or self.blame


class LoadError(Failure):
    """The runtime does not take the model."""

    kind = "load_error"
    blame = "artifact"


class OptionError(Failure):
    """An option that this runtime or scenario does not have, or a value that it cannot take."""

    kind = "bad_option"
    blame = "input"


class FeedError(Failure):
    """Inputs, or their shapes, that the model cannot take."""

    kind = "bad_feed"
    blame = "input"


class Absent(Failure):
    """The runtime's library is not installed for this interpreter, or does not work."""

    kind = "runtime_absent"
    blame = "input"


class Option:
    """One option of a runtime or scenario. Kinds: int, float, bool, str, names (list of str), mapping."""

    __slots__ = ("at_least", "choices", "default", "doc", "kind", "name")

    def __init__(
        self,
        name: str,
        kind: str,
        default: Any,
        doc: str,
        choices: Tuple[str, ...] = (),
        at_least: Optional[float] = None,
    ) -> None:
        self.name = name
        self.kind = kind
        self.default = default
        self.doc = doc
        self.choices = choices
        self.at_least = at_least


class Port:
    """One input of a model: its name, numpy dtype by name, and shape as the model declares it."""

    __slots__ = ("dtype", "name", "shape")

    def __init__(self, name: str, dtype: str, shape: Sequence[Dim]) -> None:
        self.name = name
        self.dtype = dtype
        self.shape = tuple(shape)


_KINDS: Dict[str, Callable[[Any], bool]] = {
    "int": lambda value: type(value) is int,
    "float": lambda value: type(value) in (int, float) and abs(value) < float("inf"),
    "bool": lambda value: type(value) is bool,
    "str": lambda value: type(value) is str,
    "names": lambda value: type(value) in (list, tuple) and all(type(item) is str for item in value),
    "mapping": lambda value: isinstance(value, dict) and all(type(key) is str for key in value),
}


def check_options(options: Sequence[Option], given: Mapping[str, Any], owner: str) -> Dict[str, Any]:
    """Every option with the value given or its default. Raises OptionError; `owner` is such as "runtime 'litert'"."""
    known = {option.name: option for option in options}
    for name in given:
        if name not in known:
            raise OptionError(
                f"{owner} has no option {name!r}; known: {', '.join(sorted(known)) or 'none'}. "
                "Remove it, or correct its name."
            )
    return {name: _checked(option, given.get(name, option.default), owner) for name, option in known.items()}


def _checked(option: Option, value: Any, owner: str) -> Any:
    what = f"option {option.name!r} of {owner} is {value!r:.80}"
    if not _KINDS[option.kind](value):
        raise OptionError(f"{what}; its type is {option.kind}, such as {option.default!r}.")
    if option.choices and value not in option.choices:
        raise OptionError(f"{what}; choose one of {', '.join(option.choices)}.")
    if option.at_least is not None and value < option.at_least:
        raise OptionError(f"{what}; at least {option.at_least} is needed.")
    if option.kind == "float":
        return float(value)  # 30 and 30.0 are one Plan
    return list(value) if option.kind == "names" else value


def kind_of(error: BaseException, otherwise: str) -> str:
    """The reason's code of an exception that a runtime raised."""
    text = str(error)
    if isinstance(error, MemoryError) or any(words in text.lower() for words in _OUT_OF_MEMORY):
        return "memory"
    if any(words in text for words in _UNSUPPORTED):
        return "unsupported_op"
    return otherwise


def text_of(error: BaseException) -> str:
    """An exception as one line: its type and message."""
    return one_line(f"{type(error).__name__}: {error}")


def one_line(text: str) -> str:
    """Printable, on one line, its middle left out beyond 600 characters: for text that a model or library made."""
    text = "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))
    return text if len(text) <= 600 else text[:400] + " ... " + text[-195:]
