"""What a question is: fields with the words that the command line shows for them, and the one way to ask."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import MISSING, Field, field, fields, replace
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, TypeVar

from estimator.errors import InputError
from estimator.models import Model, load_model
from estimator.names import read
from estimator.records import NamedTuple, dataclass
from estimator.texts import arguments
from estimator.trace import adopt

Q = TypeVar("Q", bound="Question")
AUTOMATIC = ("dtype", "kv_dtype")  # of which "auto" is what is taken where they are not given


class Option(NamedTuple):
    """How a field is spelt on the command line.

    help      one line; metavar: its placeholder; short: other spellings, ``-b`` or ``-ngl --n-gpu-layers``
    kind      "text", "flag", "switch" (``--x/--no-x``), "int", "float" or "list"
    flag      its name where that is not the field's; hidden: an option of Python only
    of        fields of which one must ask for something, or this one changes nothing
    """

    help: str
    metavar: str | None = None
    short: str = ""
    kind: str = "text"
    flag: str = ""
    hidden: bool = False
    of: tuple[str, ...] = ()


SIZES = ("N", "R", "STAGE", "TOKENS")  # placeholders of the options that are sizes


class Unsaid(str):
    """A default that a recipe or an engine may have another one for: told from the same word where it is said."""


def option(default: Any, help: str, metavar: str | None = None, **more: Any) -> Any:
    """A field of a question: its default and the words of :class:`Option`."""
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata={"option": Option(help, metavar, **more)})
    return field(default=default, metadata={"option": Option(help, metavar, **more)})


def again(question: type[Any], name: str, default: Any, **more: Any) -> Any:
    """Another question's option with a default of its own; more: what else of its :class:`Option` is another."""
    words = question.__dataclass_fields__[name].metadata["option"]
    return field(default=default, metadata={"option": words._replace(**more)})


MODEL_HELP = "Preset, config.json or folder, .safetensors, .gguf, Modelfile, hf:org/name, or symbolic."


@dataclass(frozen=True, kw_only=True)
class Question:
    """What every question has: a model. ``model`` is a :class:`Model` once the question is asked."""

    model: Any = option("llama-3-8b", MODEL_HELP, "MODEL", short="-m")
    part: Any = option("", "text: the text model of a multimodal one, without its towers.", "PART")
    with_transformers: Any = option(False, "Let transformers build the model, without weights.", kind="flag")

    @classmethod
    def default_model(cls, options: Mapping[str, Any]) -> str | None:
        """What ``--model`` is where it is not given; ``options``: the others."""
        return str(cls.__dataclass_fields__["model"].default)

    @property
    def traced(self) -> bool:
        """Whether sizes are traced numbers: the run derives, or the model is given in letters."""
        return bool(self.model is not None and (self.model.kind == "symbolic" or self.derives))

    @property
    def derives(self) -> bool:
        """Whether the model was loaded for a derivation."""
        return self.model is not None and self.model.derives


COMMON = tuple(f.name for f in fields(Question))  # what says which model it is, in every question


def options_of(question: type[Question]) -> Iterator[tuple[Field[Any], Option]]:
    """(field, option) of every field that the command line shows."""
    for f in fields(question):
        found = f.metadata.get("option")
        if found is not None and not found.hidden:
            yield f, found


def flag_of(name: str, question: type[Question]) -> str:
    """``--flag`` of a field."""
    found = next((o for f, o in options_of(question) if f.name == name and o.flag), None)
    return f"--{found.flag if found else name.replace('_', '-')}"


INERT = (None, False, "", 0, 1, "0", "1", "none")  # values with which an option asks for nothing


class Given(NamedTuple):
    """An option of a question: its field, its flag, its default, the fields of which one must ask for something."""

    name: str
    flag: str
    default: Any
    of: tuple[str, ...]


@lru_cache(maxsize=64)
def _asked_of(question: Any) -> tuple[Given, ...]:
    """The fields that are options, but what says which model it is."""
    known = question.__dataclass_fields__
    return tuple(
        Given(f.name, flag_of(f.name, question), f.default, tuple(n for n in words.of if n in known))
        for f, words in options_of(question) if f.name not in COMMON
    )  # fmt: skip


def given(q: Any) -> list[Given]:
    """The options of a question that are not at their defaults; a number may be one, or its text."""
    values = vars(q)
    return [
        f for f in _asked_of(q.__class__)
        if values[f.name] is not f.default and _differs(values[f.name], f.default)
    ]  # fmt: skip


def _differs(value: Any, default: Any) -> bool:
    if default is None and value is False:
        return False
    return value is not None and value not in (default, {}) and str(value) != str(default)


def spelt(q: Question, f: Given) -> str:
    """The option as it is typed."""
    value = getattr(q, f.name)
    return f.flag if value is True or isinstance(value, dict) else f"{f.flag} {str(value)[:40]}"


def refuse_idle(q: Any) -> None:
    """InputError for an option that means something only beside another, which asks for nothing."""
    for f in given(q):
        if f.of and all(getattr(q, name) in INERT for name in f.of):
            flags = " or ".join(g.flag for name in f.of for g in _asked_of(q.__class__) if g.name == name)
            raise InputError(f"{spelt(q, f)} changes nothing alone: add {flags}, or leave it out")


def refuse_beyond(q: Question, taken: Collection[str], who: str) -> None:
    """InputError for an option that ``who`` does not take; taken: names of the fields that it does."""
    for f in given(q):
        if f.name not in taken:
            raise InputError(f"{f.flag} is no option of {who}")


def sizes_of(question: type[Question]) -> frozenset[str]:
    """The fields that are sizes."""
    return frozenset(f.name for f, words in options_of(question) if words.metavar in SIZES)


def ask(question: type[Q], model: Model | str | None = None, options: Mapping[str, Any] | None = None,
        overrides: Any = (), traced: bool = False) -> Q:  # fmt: skip
    """The question that these options ask.

    model: a Model, the text of ``--model`` (loaded with ``--set`` overrides, traced for a derivation), or None for the
    question's default. options: by field name; values may be texts as on the command line. Raises InputError for an
    option that the question does not have and for names that do not exist.
    """
    known = question.__dataclass_fields__
    of_adapter, notes = "", tuple[str, ...]()
    if "adapter" in known and (options or {}).get("adapter") is not None:
        from estimator.peft.files import from_adapter

        said = {k: v for k, v in (options or {}).items() if k != "method" or v != known["method"].default}
        place = str(said.pop("adapter"))
        options, base, notes = from_adapter(place, said)
        if base is not None and model in (None, question.default_model(options)):
            model, of_adapter = base, f"--adapter {place}: base_model_name_or_path: "
    given: dict[str, Any] = {}
    for name, value in (options or {}).items():
        if name not in known or name == "model":
            near = get_close_matches(name, known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise InputError(f"{question.__name__.lower()} has no option {name!r}.{hint}")
        if name == "args" and isinstance(value, list | tuple | type(None)):
            value = arguments(value)
        default = known[name].default
        if value is None and default is not MISSING and default is not None:
            continue  # an option that is not given is its default
        if name in AUTOMATIC and str(value).strip().lower() == "auto":
            continue  # as engines call what the checkpoint says
        given[name] = read(name, value) if isinstance(value, str) else value
    if model is None:
        model = question.default_model(options or {})
    if isinstance(model, str):
        part, library = str(given.get("part", "")), bool(given.get("with_transformers", False))
        try:
            model = load_model(model, overrides or (), traced=traced, part=part, library=library)
        except InputError as error:
            if not of_adapter:
                raise
            raise InputError(f"{of_adapter}{error}; or name the base beside it with --model") from None
    elif overrides:
        raise InputError("--set overrides a field of a model's config: add --model")
    if isinstance(model, Model) and notes:
        model = replace(model, own_notes=(*model.own_notes, *notes))
    if isinstance(model, Model) and model.config is not None:
        adopt(model.config.letters)
    if isinstance(model, Model) and model.options:  # a Modelfile's, where the command line does not say otherwise
        default = {k: v for k, v in model.options.items() if k in known and given.get(k) is None}
        given |= default if given.get("engine") in (None, model.options["engine"]) else {}
    if isinstance(model, Model) and (given.get("images") is not None or given.get("image_size") is not None):
        from estimator.questions.images import with_images

        model, given = with_images(model, given)
    made = question(model=model, **given)
    refuse_idle(made)
    return made
