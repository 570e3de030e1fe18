"""What earlier releases of transformers, and other libraries' modeling code, keep that the present one does not.

Found by reading modeling files release by release (4.45 to 5.17) and, for 4.57, beside steps measured on an RTX A6000.
"""

from __future__ import annotations

import re

from estimator.errors import InputError
from estimator.records import dataclass

LATEST = "5.17"
OLDEST = (4, 45)


@dataclass(frozen=True, slots=True)
class Release:
    """A release of transformers, or of a library with code of its own (estimator.stack.codes).

    upcasts        a model's own forward pass widens the logits to fp32, and lets the narrow ones go (before 4.46)
    shifts_logits  the loss copies the fp32 logits without each row's last (loss_utils.py before 4.50)
    repeats_heads  SDPA is given a key and a value for every query head (sdpa_attention.py before 4.54)
    makes_masks    without an attention_mask a causal one is always made, which rules the flash kernel out
                   (masking_utils.py, find_packed_sequence_indices, 4.53 to 4.57)
    copies_heads   queries, keys and values are made contiguous for SDPA (4.48 to 4.55)
    wide_norms     an RMSNorm multiplies with its weight in fp32, too
    pairs          queries and keys are rotated in fp32, pair by pair; table: cos and sin of all positions stand in fp32
    unties         the output matrix is never tied; fuses: queries, keys and values come out of one matrix
    joins          attention runs a sequence or a few at a time, and what comes out is put together
    scratch        4-bit weights are unpacked into one buffer of the largest, which stays
    """

    name: str = LATEST
    shifts_logits: bool = False
    repeats_heads: bool = False
    makes_masks: bool = False
    copies_heads: bool = False
    wide_norms: bool = False
    pairs: bool = False
    table: bool = False
    unties: bool = False
    fuses: bool = False
    joins: bool = False
    scratch: bool = False
    upcasts: bool = False

    def said(self) -> list[str]:
        """What a report assumes of it."""
        out = [f"transformers {self.name}"]
        if self.repeats_heads:
            out[0] += ": keys and values are written out for every query head"
        if self.makes_masks:
            out.append("without an attention_mask this release makes a causal mask, and SDPA leaves its flash kernel")
        if self.upcasts:
            out.append("the model widens the logits to fp32 itself and lets the others go, as most decoders did then")
        return out


PRESENT = Release()


def release(text: str | None) -> Release:
    """The release called ``text``: "5", "4.57", "4.57.6". InputError for none that was read."""
    if text is None:
        return PRESENT
    found = re.fullmatch(r"v?(\d{1,4})(?:\.(\d{1,4}))?(?:\.\d{1,4})*", str(text).strip())
    if not found:
        raise InputError(f"--transformers {str(text)[:20]!r}: expected a version, like 5 or 4.57")
    at = (int(found[1]), int(found[2]) if found[2] else 0)
    if found[2] is None and at[0] >= 5:
        return PRESENT
    if found[2] is None and at[0] == 4:
        at = (4, 57)
    if at < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise InputError(f"--transformers {str(text)[:20]}: releases before {oldest} were not read; use {oldest} to 5")
    return Release(
        f"{at[0]}.{at[1]}", at < (4, 50), at < (4, 54), (4, 53) <= at < (5, 0), (4, 48) <= at < (4, 56),
        upcasts=at < (4, 46),
    )
