"""What the documentation's pages hold."""

from __future__ import annotations

import re


def blocks(text: str, language: str = "") -> list[str]:
    """The fenced blocks of a page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.S | re.M)
