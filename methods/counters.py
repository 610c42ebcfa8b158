"""Random bits that follow from counters: the mixing of the generator SplitMix64.

Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014. Integer
arithmetic, so the same on every device and in every batch. Words are int64: torch has no
unsigned shifts.
"""

from __future__ import annotations

from torch import Tensor


def signed(constant: int) -> int:
    """The int64 with the same bits as an unsigned constant."""
    return constant - (1 << 64) if constant >= 1 << 63 else constant


GOLDEN = signed(0x9E3779B97F4A7C15)
"""The odd constant by which the generator's counter moves on."""


def mixed(words: Tensor) -> Tensor:
    """A new tensor of words, each thoroughly mixed."""
    words = _shifted(words, 30).bitwise_xor_(words).mul_(signed(0xBF58476D1CE4E5B9))
    words = _shifted(words, 27).bitwise_xor_(words).mul_(signed(0x94D049BB133111EB))
    return _shifted(words, 31).bitwise_xor_(words)


def _shifted(words: Tensor, places: int) -> Tensor:
    """A new tensor, shifted to the right and filled with zeros, as for unsigned numbers."""
    return (words >> places).bitwise_and_((1 << (64 - places)) - 1)
