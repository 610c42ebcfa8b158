"""Links out of docs/ lead to the repository; pages that fetch from other hosts are refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError

OUTSIDE = re.compile(r"\]\(\.\./([^)#]+)")
"""Where a link to a file of the repository begins: ](../configs/quickstart.yaml"""
FETCHED = re.compile(
    r"<(?:script|img|iframe)\b[^>]*\bsrc=.?https?://[^>]*>"
    r"|<link\b[^>]*\brel=.?(?:stylesheet|preconnect|icon)\b[^>]*\bhref=.?https?://[^>]*>"
    r"|<link\b[^>]*\bhref=.?https?://[^>]*\brel=.?(?:stylesheet|preconnect|icon)\b[^>]*>"
)
"""A tag for which a browser would ask another host."""


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """The text to build a page from.

    Raises PluginError if the page links to a file of the repository that is not there.
    """
    root = Path(config.docs_dir).parent
    for path in OUTSIDE.findall(markdown):
        if not (root / path).exists():
            raise PluginError(f"{page.file.src_uri} links to ../{path}, which is not there")
    return OUTSIDE.sub(rf"]({config.extra['repository']}/blob/main/\1", markdown)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """The built page as it is.

    Raises PluginError if a browser would fetch any part of it from another host.
    """
    if found := FETCHED.search(output):
        raise PluginError(f"{page.file.src_uri} does not open offline: {found.group()}")
    return output
