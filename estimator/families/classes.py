"""Which of a decoder's classes ``architectures`` names: the causal language model, the bare model, or a classifier.

The families describe their ``...ForCausalLM``. The bare model has no output matrix (e5-mistral: ``MistralModel``); a
classifier (reward models: ``LlamaForSequenceClassification``) puts a small matrix in its place, which every token
goes through. Source: transformers 5, modeling_layers.py (GenericForSequenceClassification and its siblings).
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.families.base import HEAD, LANGUAGE_MODELS, Architecture, Extra, Linear, Lookup, Norm, Weight
from estimator.families.common_encoder import labels

PREFIXES = ("model", "transformer", "backbone", "gpt_neox")  # what a language model calls the bare model inside it


def as_named(c: Config, made: Architecture) -> Architecture:
    """The architecture as the class that the config names; with a note where the name is not understood."""
    named = c.items("architectures")
    if not named or "class" in made.facts or made.textbook:
        return made
    name = str(named[0])
    if name.endswith(LANGUAGE_MODELS):
        return made
    if name.endswith("Model"):
        return _headless(moved("", made), "Model")
    found = [x for x in ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering") if x in name]
    if not found or not name.endswith(found[0]):
        c.notes.append(f"architectures names {name[:60]!r}, which is not known: counted as the causal language model")
        return made
    out = _classifier(c, made, found[0])
    if found[0] == "ForQuestionAnswering" and made.classes.bare:
        made = moved(f"{made.classes.bare}.", made)
    return _headless(made, found[0])._replace(final=(*made.final, out))


def _classifier(c: Config, made: Architecture, suffix: str) -> Linear:
    """The matrix in the head's place; it reads what the head would have read."""
    width = made.head.d_in if made.head is not None else next(x.width for x in made.embeddings if isinstance(x, Lookup))
    if suffix == "ForQuestionAnswering":
        return Linear("qa_outputs", width, labels(c) if made.classes.answers else 2, True, role=HEAD)
    tokens = suffix == "ForTokenClassification"
    name = made.classes.tokens if tokens else "score"
    return Linear(name, width, labels(c), tokens and c.flag("token_classification_bias", True), role=HEAD)


def _headless(made: Architecture, suffix: str) -> Architecture:
    facts = {k: v for k, v in made.facts.items() if not k.startswith("logit_")}
    return made._replace(head=None, head_extras=(), tied=False, has_head=False, facts={**facts, "class": suffix})


def moved(prefix: str, part: Any) -> Any:
    """``part`` with ``prefix`` in the names where the language model says what it calls the bare model."""
    if isinstance(part, (Linear, Norm, Lookup, Extra, Weight)):
        first, _, rest = part.name.partition(".")
        return part._replace(name=prefix + rest) if rest and first in PREFIXES else part
    if hasattr(part, "_fields"):
        return part._replace(**{field: moved(prefix, getattr(part, field)) for field in part._fields})
    return tuple(moved(prefix, x) for x in part) if isinstance(part, tuple) else part
