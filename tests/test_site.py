"""The site: links that lead nowhere stop its build, it fetches nothing, its table is current."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from mtofront.methods import METHODS

ROOT = Path(__file__).parents[1]
pytest.importorskip("mkdocs", reason="the site is built with pip install '.[docs]'")


def module(path: str) -> ModuleType:
    """A file of the repository that is in no package."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec and spec.loader
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


HOOKS = module("docs/site/hooks.py")
SITE = f"""\
INHERIT: {ROOT / "mkdocs.yml"}
docs_dir: pages
site_dir: site
hooks: []
plugins: []
extra_css: []
extra: {{polyfills: []}}
exclude_docs: ""
nav: [index.md]
"""


def built(text: str) -> subprocess.CompletedProcess[str]:
    """A site of one page, built with this site's settings by the command of `make docs`."""
    Path("pages").mkdir()
    Path("pages/index.md").write_text(f"# Heading\n\n{text}\n")
    Path("mkdocs.yml").write_text(SITE)
    recipe = re.search(r"\$\(BIN\)/mkdocs (.*)", (ROOT / "Makefile").read_text())
    assert recipe
    command = [sys.executable, "-m", "mkdocs", *shlex.split(recipe[1])]
    return subprocess.run(
        command, capture_output=True, text=True, env={"NO_MKDOCS_2_WARNING": "1"}, check=False
    )


def test_a_page_whose_links_lead_somewhere_is_built(workdir: Path) -> None:
    done = built("[here](#heading)")
    assert done.returncode == 0, done.stderr
    assert Path("site/index.html").is_file()


@pytest.mark.parametrize("link", ["nowhere.md", "#nowhere", "nowhere.png"])
def test_a_link_that_leads_nowhere_stops_the_build(workdir: Path, link: str) -> None:
    done = built(f"[there]({link})")
    assert done.returncode == 1
    assert link in done.stderr


def page_and_config() -> dict[str, SimpleNamespace]:
    """What MkDocs hands to a hook, as far as ours look at it."""
    config = SimpleNamespace(docs_dir=str(ROOT / "docs"), extra={"repository": "https://host/us"})
    return {"page": SimpleNamespace(file=SimpleNamespace(src_uri="a.md")), "config": config}


def test_links_out_of_the_documentation_lead_to_the_repository() -> None:
    text = HOOKS.on_page_markdown("[x](../README.md#methods)", **page_and_config())
    assert text == "[x](https://host/us/blob/main/README.md#methods)"


def test_a_link_to_a_file_that_the_repository_lacks_is_refused() -> None:
    with pytest.raises(Exception, match=r"a\.md links to \.\./nowhere\.py"):
        HOOKS.on_page_markdown("[x](../nowhere.py)", **page_and_config())


@pytest.mark.parametrize(
    "tag",
    [
        '<script async src="https://cdn.host/x.js"></script>',
        '<link rel="stylesheet" href="https://host/x.css">',
        '<link href="https://host" rel="preconnect" crossorigin>',
        "<img alt=x src=https://host/x.png>",
    ],
)
def test_a_page_that_fetches_from_another_host_is_refused(tag: str) -> None:
    with pytest.raises(Exception, match=r"a\.md does not open offline"):
        HOOKS.on_post_page(f"<html>{tag}</html>", **page_and_config())


def test_links_to_other_hosts_and_own_files_are_fine() -> None:
    text = '<a href="https://host">x</a><script src="a.js"></script><link rel="canonical" href="https://host">'
    assert HOOKS.on_post_page(text, **page_and_config()) == text


def test_the_table_of_methods_is_current() -> None:
    """Else `make pages` writes it again."""
    rows = (ROOT / "docs/methods.md").read_text(encoding="utf-8").splitlines()
    current = ["| " + " | ".join(row.values()) + " |" for row in method_pages()]
    assert [row for row in rows if row.startswith("| `")] == current
    assert [re.findall("`(.*?)`", row)[0] for row in current] == sorted(METHODS)


def method_pages() -> list[dict[str, str]]:
    """The rows of the table of methods."""
    rows: list[dict[str, str]] = module("benchmarks/method_pages.py").method_page()
    return rows


def test_links_of_the_readme_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for path, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text):
        target = ROOT / (path or "README.md")
        assert target.exists(), path
        if anchor:
            page = target.read_text(encoding="utf-8")
            heads = re.findall(r"^#+ (.*)$", page, re.M)
            slugs = {re.sub(r"[^\w\- ]", "", head).lower().replace(" ", "-") for head in heads}
            assert anchor in slugs.union(re.findall(r'<a id="(.*?)">', page)), f"{path}#{anchor}"
