"""What a PEFT method declares and is given: its arguments, the tensors it may yield, its work.

Read by every method file through :mod:`estimator.peft.base`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import prod
from typing import TYPE_CHECKING, Any

from estimator.errors import InputError, unknown
from estimator.ops import NOTHING
from estimator.peft.modules import LINEAR, Module
from estimator.peft.targets import compiled
from estimator.records import NamedTuple
from estimator.trace import Recordable, Traced

if TYPE_CHECKING:
    from estimator.peft.build import Build
    from estimator.stack.adapted import Forward
    from estimator.stack.around import Around
    from estimator.stack.prompt import Encode

MANY_VALUED = {"init_lora_weights", "init_weights"}  # true by default, and the name of a scheme otherwise
TRAINED, FROZEN, BUFFER = "trained", "frozen", "buffer"
TUNER, BASE, INDEX = "tuner", "base", "index"
SAVED = "modules_to_save."  # before the name of a weight of which a trained copy is kept

# fields that several of peft's config classes share; a method lists those its class has
TARGETS = "target_modules modules_to_save"
LAYERS = "layers_to_transform layers_pattern"
COMMON = f"{TARGETS} {LAYERS}"
# fields of PeftConfig itself: none decides a count but task_type
BASE_FIELDS = (
    "task_type peft_type auto_mapping base_model_name_or_path revision inference_mode peft_version runtime_config"
)

# peft utils/peft_types.py, TaskType
TASKS = ("SEQ_CLS", "SEQ_2_SEQ_LM", "CAUSAL_LM", "TOKEN_CLS", "QUESTION_ANS", "FEATURE_EXTRACTION")
# peft_model.py: what these tasks train beside the adapter, under any of these names
CLASSIFIERS = {
    "SEQ_CLS": ("classifier", "score"),
    "TOKEN_CLS": ("classifier", "score"),
    "QUESTION_ANS": ("qa_outputs",),
}


class PeftTensor(NamedTuple):
    """One tensor that an adapter adds (or, in ``Adapter.unfrozen``, one of the model's own that it trains).

    module   the module pattern it belongs to; "" for what the whole adapter shares
    name     its name in the module, as peft calls it
    shape    its shape; times: how many layers hold one
    state    TRAINED (requires_grad), FROZEN (a parameter without) or BUFFER
    saved    whether the checkpoint holds it; elements of what is saved beside it (index pairs) in ``saved_extra``
    format   TUNER: the adapter's own format, fp32 over a 16-bit model (peft's cast_adapter_dtype converts what tuner
             layers hold); BASE: the model's, which is left alone; INDEX: 64-bit integers
    pieces   into how many parameters the first axis is divided, or 0; stored: its name in the file, where not its own;
             beside: what ``saved_extra`` is: (name, shape, safetensors' type or "" for its own); without: copies of it
    host     made on the CPU and left there by the library; common: one tensor that several layers name
    around   bytes that stand on the card with one of it, and are neither parameters nor buffers
    layers   the numbers of the layers that hold it, where those of a kind differ; None: all that its module stands in
    idle     how many of them get no gradient, and so no states
    """

    module: str
    name: str
    shape: tuple[Any, ...]
    times: Any = 1
    state: str = TRAINED
    saved: bool = True
    saved_extra: Any = 0
    format: str = TUNER
    pieces: Any = 0
    stored: str = ""
    beside: tuple[tuple[str, tuple[Any, ...], str], ...] = ()
    host: bool = False
    around: Any = 0
    common: bool = False
    layers: tuple[int, ...] | None = None
    idle: int = 0

    @property
    def elements(self) -> Any:
        """Elements over all layers."""
        return self.times * prod(self.shape, start=1)


class Work(NamedTuple):
    """What one adapted matrix costs beside its own product while the adapter is not merged.

    flops     extra FLOPs a token; fixed: extra FLOPs of a forward pass whatever its tokens (DoRA's norm,
    LoHa's product)
    products  extra matrix products one after the other
    """

    flops: Any = 0
    fixed: Any = 0
    products: int = 0


class Method(NamedTuple):
    """A PEFT method.

    name       its name on the command line; title and cite: what people call it and where it is read
    build      Build -> tensors
    args       the arguments that decide counts, with the peft library's defaults
    accepts    further fields of its config class, accepted because they change no count
    rank       the argument that ``--rank`` sets, or "" where the method has no rank
    kinds      the module types it takes
    mapping    its table of default targets; "" where it has none
    merges     whether it can be merged into the weights, so that it costs nothing at inference
    work       (Module, args) -> Work of an unmerged module; None: no extra product
    away       whether the targets' own weights lie on the CPU while it trains
    prefix     True where virtual tokens are keys and values only
    virtual    True for methods that lengthen the sequence (prompts, prefixes)
    skips      True for a method that passes over targets of other types instead of refusing them
    forward    the operations of its layer's forward, on the tape (estimator.stack.adapted)
    ahead, after, layer    what its model runs before the layers, makes of the loss, and runs in a layer's place
    around     those of an attention with an adapter around it (estimator.stack.around)
    encode     those that make its virtual tokens (estimator.stack.prompt)
    both       True where a decoder that an encoder feeds has virtual tokens too
    simulated  True where a step of it is simulated without one: what it trains are the model's own modules, or copies
    wide       True where its numbers are in fp32 whatever ``autocast_adapter_dtype`` says
    recomputes  False where a checkpointed layer cannot run again: what it needs is gone with the forward pass
    library    False for a method that the peft library does not have under this name
    """

    name: str
    title: str
    cite: str
    build: Callable[[Build], Iterable[PeftTensor]]
    args: Mapping[str, Any] = NOTHING
    accepts: str = ""
    rank: str = "r"
    kinds: tuple[str, ...] = (LINEAR,)
    mapping: str = ""
    merges: bool = True
    work: Callable[[Module, Args], Work] | None = None
    virtual: bool = False
    skips: bool = False
    library: bool = True
    prefix: bool = False
    forward: Forward | None = None
    away: Callable[[Args], bool] | None = None
    ahead: Callable[..., None] | None = None
    after: Callable[..., Any] | None = None
    layer: Callable[..., Any] | None = None
    around: Around | None = None
    encode: Encode | None = None
    both: bool = False
    simulated: bool = False
    recomputes: bool = True
    wide: bool = False

    def known_args(self) -> set[str]:
        return {*self.args, *self.accepts.split(), *BASE_FIELDS.split()}


class Args:
    """A method's arguments: what the user gave over the library's defaults, read with a check each.

    ``given`` are the user's; a value may be traced (``--rank R``).
    """

    def __init__(self, method: Method, given: Mapping[str, Any]) -> None:
        self.method, self.given = method, dict(given)
        known = method.known_args()
        for name in self.given:
            if name not in known:
                raise unknown(
                    f"--arg of {method.name}",
                    name,
                    known,
                    f"--method {method.name} takes them as the peft library does",
                )

        for name in self.given:
            if isinstance(method.args.get(name), bool) and name not in MANY_VALUED:
                self.flag(name)

    def __getitem__(self, name: str) -> Any:
        value = self.given.get(name)
        return self.method.args.get(name) if value is None else value

    def has(self, name: str) -> bool:
        return self.given.get(name) is not None

    def count(self, name: str, least: int = 1) -> Any:
        """A whole number >= ``least``, traced or not."""
        value = self[name]
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, Traced):
            if value < least:
                raise self.bad(name, f"must be >= {least}")
            return value
        if isinstance(value, bool) or not isinstance(value, int | Recordable):
            raise self.bad(name, "must be a whole number" if value is not None else "must be given")
        if value < least or value > 10**12:
            raise self.bad(name, f"must be >= {least}" if value < least else "is out of range")
        return value

    def flag(self, name: str) -> bool:
        value = self[name]
        if not isinstance(value, bool):
            raise self.bad(name, "must be true or false")
        return value

    def number(self, name: str, low: float, high: float) -> float:
        value = self[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise self.bad(name, f"must be a number from {low:g} to {high:g}")
        return float(value)

    def choice(self, name: str, *options: str) -> str:
        value = self[name]
        if not isinstance(value, str) or value not in options:
            raise self.bad(name, f"must be one of {', '.join(options)}")
        return value

    def names(self, name: str) -> tuple[str, ...]:
        """A list of names; a single name counts as a list of one."""
        value = self[name]
        if value is None:
            return ()
        if isinstance(value, str):
            return (value,)
        if not isinstance(value, list | tuple) or not all(isinstance(v, str) for v in value):
            raise self.bad(name, "must be a list of names")
        return tuple(value)

    def patterns(self, name: str) -> dict[str, Any]:
        """A mapping from patterns to whole numbers (``rank_pattern``)."""
        value = self[name] or {}
        if not isinstance(value, dict):
            raise self.bad(name, 'must be an object, like {"q_proj": 16}')
        for key, number in value.items():
            compiled(key, f"--arg {name}")
            if isinstance(number, bool) or not isinstance(number, int | float) or number <= 0:
                raise self.bad(name, "must map names to numbers > 0")
        return value

    def bad(self, name: str, why: str) -> InputError:
        """An InputError about one argument."""
        got = self[name]
        shown = int(got) if isinstance(got, Traced) else got
        option = "--rank" if name == self.method.rank else f"--arg {name}"
        return InputError(f"{option} {why}" + ("" if got is None else f", got {str(shown)[:40]!r}"))
