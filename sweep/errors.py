"""The ways in which a request can be wrong or a sweep can stop, each with words for the user."""

from __future__ import annotations


class RequestError(ValueError):
    """The request was wrong: nothing was started, nothing was written."""


class StorageError(OSError):
    """Results could not be written; what was finished before is kept."""


class EngineError(RuntimeError):
    """What trains the packs broke down; what was finished before is kept."""


class Interrupted(Exception):
    """The sweep in the folder that the message names was stopped from outside; `resume` goes on."""
