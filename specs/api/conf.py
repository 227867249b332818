"""How Sphinx builds the API reference: `make docs`, into `build/api`. A warning is an error."""

from __future__ import annotations

import re
from importlib import metadata

from docutils.nodes import Element, TextElement
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

import statemachine
import statemachine.errors
import statemachine.runtime
import statemachine.stores

PACKAGES = (statemachine, statemachine.errors, statemachine.runtime, statemachine.stores)
"""What their `__all__` names is on a page."""
OF_MODULES = {"class", "exception", "function", "data"}
MEMBERS = {"attribute", "method", "property"}

project = "agent-statemachine"
author = "The agent-statemachine authors"
release = metadata.version(project)
html_theme = "furo"
html_title = f"{project} {release}"
html_show_copyright = False
html_show_sphinx = False

extensions = ["sphinx.ext.autodoc"]
default_role = "py:obj"  # a name in single backticks is a link if that name is on a page, and code if it is not
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"
autodoc_member_order = "bysource"
autodoc_default_options = {"undoc-members": True}
rst_epilog = f".. |names| replace:: {', '.join(f'`{name}`' for name in statemachine.__all__)}"


def leave_out_the_arrows(_: Sphinx, what: str, __: str, ___: object, ____: object, lines: list[str]) -> None:
    """Which file to read first and what a room may import is for those who change it."""
    if what == "module":
        ends = [number for number, line in enumerate(lines) if re.match(r"Read `|May import:", line)]
        del lines[min(ends, default=len(lines)) :]


def find_by_last_name(app: Sphinx, env: BuildEnvironment, node: Element, text: TextElement) -> Element | None:
    """A short name is a link too, if it is the name of one thing on the pages and of no other."""
    domain, target = env.domains.python_domain, node.get("reftarget", "")
    kinds = MEMBERS if "." in target else OF_MODULES  # a parameter is often called what some attribute is called
    found = [
        name
        for name, entry in domain.objects.items()
        if name.endswith(f".{target}") and entry.objtype in kinds and not entry.aliased
    ]
    if len(found) != 1:
        return None
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", found[0], node, text)


def warn_of_names_without_an_entry(_: Sphinx, env: BuildEnvironment) -> None:
    """A public name that no page has fails the build."""
    there = {name.rpartition(".")[2] for name in env.domains.python_domain.objects}
    for package in PACKAGES:
        for name in package.__all__:
            if name not in there:
                logging.getLogger(__name__).warning("%s.%s is on no page of specs/api", package.__name__, name)


def setup(app: Sphinx) -> None:
    """Tells Sphinx what to call, and when."""
    app.connect("autodoc-process-docstring", leave_out_the_arrows)
    app.connect("missing-reference", find_by_last_name)
    app.connect("env-check-consistency", warn_of_names_without_an_entry)
