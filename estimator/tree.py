"""Prefix trees of candidate sequences, and the attention mask under which all candidates run in one pass.

Source: SpecInfer (Miao et al. 2023, arXiv 2305.09781) for the token tree, Medusa (Cai et al. 2024, arXiv 2401.10774).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import product

from estimator.errors import InputError
from estimator.records import dataclass

MAX_NODES = 1000  # a pass verifies tens (Medusa: 64); the mask is nodes x nodes
_TOKEN = re.compile(r"^[A-Za-z0-9_<>|.'-]{1,40}$")


@dataclass(frozen=True, slots=True)
class Tree:
    """A prefix tree in an order in which parents come first.

    tokens    the token of each node; parents: the index of each node's parent, None for the root
    unshared  tokens of all candidates without sharing; candidates: how many there are
    """

    tokens: tuple[str, ...]
    parents: tuple[int | None, ...]
    unshared: int
    candidates: int

    @property
    def names(self) -> tuple[str, ...]:
        """A name for each node: its token where that is unique, else its path from the first ambiguous token."""
        out = []
        for i, token in enumerate(self.tokens):
            name, at = token, self.parents[i]
            if self.tokens.count(token) > 1:
                while at is not None and self.parents[at] is not None:
                    name, at = f"{self.tokens[at]}.{name}", self.parents[at]
            out.append(name)
        return tuple(out)

    @property
    def mask(self) -> tuple[tuple[int, ...], ...]:
        """mask[i][j] is 1 where node j attends node i, that is where i is j or an ancestor of j: upper triangular."""
        n = len(self.tokens)
        rows = [[0] * n for _ in range(n)]
        for j in range(n):
            at: int | None = j
            while at is not None:
                rows[at][j] = 1
                at = self.parents[at]
        return tuple(map(tuple, rows))

    @property
    def levels(self) -> list[list[str]]:
        """The names of the nodes at each depth, the root's first."""
        depth: list[int] = []
        for parent in self.parents:
            depth.append(0 if parent is None else depth[parent] + 1)
        return [[n for n, at in zip(self.names, depth, strict=True) if at == d] for d in range(max(depth) + 1)]

    def draw(self) -> str:
        """The tree as text."""
        children: dict[int | None, list[int]] = {}
        for i, parent in enumerate(self.parents):
            children.setdefault(parent, []).append(i)
        lines: list[str] = []
        stack = [(0, "", "", "")]
        while stack:
            node, lead, branch, below = stack.pop()
            lines.append(f"{lead}{branch}{self.tokens[node]}")
            kids = children.get(node, [])
            for k in reversed(kids):
                last = k == kids[-1]
                stack.append((k, lead + below, "└─ " if last else "├─ ", "   " if last else "│  "))
        return "\n".join(lines)


def parse_lists(text: str, flag: str) -> list[list[str]]:
    """``"1 2 3; 1 2 4"`` as lists of tokens; InputError for an empty list or a token that is none."""
    rows = [row.replace(",", " ").split() for row in text.split(";") if row.strip()]
    if not rows:
        raise InputError(f'{flag}: no tokens in {text[:40]!r}. Example: "1 2 3; 1 2 4"')
    for token in (t for row in rows for t in row):
        if not _TOKEN.match(token):
            raise InputError(f"{flag}: {token[:40]!r} is not a token. Use numbers or words, separated by blanks")
    return rows


def from_sequences(sequences: Sequence[Sequence[str]]) -> Tree:
    """The prefix tree of candidates that share their first token, nodes in order of first appearance."""
    roots = {s[0] for s in sequences}
    if len(roots) > 1:
        raise InputError(f"--sequences: they share no root: they start with {', '.join(sorted(roots)[:5])}")
    where: dict[tuple[str, ...], int] = {}
    parents: list[int | None] = []
    for s in sequences:
        for end in range(1, len(s) + 1):
            path = tuple(s[:end])
            if path not in where:
                if len(where) >= MAX_NODES:
                    raise InputError(f"--sequences: more than {MAX_NODES:,} nodes")
                where[path] = len(where)
                parents.append(where[path[:-1]] if end > 1 else None)
    return Tree(tuple(p[-1] for p in where), tuple(parents), sum(map(len, sequences)), len(set(map(tuple, sequences))))


def from_heads(heads: Sequence[Sequence[str]], root: str) -> Tree:
    """The tree of every combination of the heads' guesses after ``root``, level by level."""
    size, level = 1, 1
    for guesses in heads:
        if len(set(guesses)) != len(guesses):
            raise InputError(f"--heads: {' '.join(guesses)[:40]!r} names a token twice")
        level *= len(guesses)
        size += level
        if size > MAX_NODES:
            raise InputError(f"--heads: more than {MAX_NODES:,} nodes")
    tokens, parents = [root], [None]
    previous = [0]
    found: list[int | None] = list(parents)
    for guesses in heads:
        current = []
        for parent, guess in product(previous, guesses):
            current.append(len(tokens))
            tokens.append(guess)
            found.append(parent)
        previous = current
    return Tree(tuple(tokens), tuple(found), level * (len(heads) + 1), level)
