"""What can go wrong: results that cannot be read, and results that cannot be judged."""

from __future__ import annotations


class RecordsError(ValueError):
    """A results folder that cannot be read, with the file and what mends it."""


class RecordsWarning(UserWarning):
    """Records of no use, with the file and what mends it; their runs count as missing."""


class ComparisonError(ValueError):
    """Readable results that do not allow a comparison, with the rule and what was found."""
