"""Sphinx: `sphinx-build -W docs site`."""

import importlib
import pathlib
import re
import shutil
import sys

from sphinx.util import logging

DOCS = pathlib.Path(__file__).parent
BENCHMARKS = DOCS.parent / "benchmarks"
sys.path.insert(0, str(DOCS / "_ext"))

from jaxkd import __version__

project = "jaxkd"
author = "The jaxkd authors"
copyright = author
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "mathml",
]
exclude_patterns = ["_ext"]
myst_enable_extensions = ["dollarmath", "deflist", "attrs_inline"]
myst_heading_anchors = 3
suppress_warnings = ["autodoc.mocked_object"]

html_theme = "furo"
html_title = "jaxkd"
html_static_path = ["_static"]
html_css_files = ["jaxkd.css"]
html_math_renderer = "mathml"
html_show_sphinx = False

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False  # the signature shows them
python_use_unqualified_type_names = True
python_display_short_literal_types = True
maximum_signature_line_length = 80
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

#: What the API reference must be whole for.
PUBLIC = (
    "jaxkd.losses",
    "jaxkd.losses.layer_maps",
    "jaxkd.objectives",
    "jaxkd.models",
    "jaxkd.train",
    "jaxkd.compress",
    "jaxkd.data",
    "jaxkd.data.augment",
    "jaxkd.checkpoint",
    "jaxkd.deploy",
    "jaxkd.report",
    "jaxkd.recipes",
    "jaxkd.trees",
)


def check_reference(app, env):
    """Warns, which fails the build, of each public name that no page describes."""
    described = env.get_domain("py").objects
    logger = logging.getLogger(__name__)
    for module in PUBLIC:
        found = importlib.import_module(module)
        for name in getattr(found, "__all__", ()):
            if f"{module}.{name}" not in described:
                logger.warning("%s.%s has no entry in the API reference", module, name)


def point_at_pages(app, name, source):
    """Links to files of the repository, as they are right there, become pages."""
    root = "../" * name.count("/")
    for pattern, page in (
        (r"\]\((?:\.\./)*benchmarks/RESULTS-(\w+)\.md", r"](ROOTresults/\1.md"),
        (r"\]\((?:\.\./)*benchmarks/RESULTS\.md", r"](ROOTresults/index.md"),
        (r"\]\((?:\.\./)*examples/(\w+)\)", r"](ROOTexamples/\1.md)"),
        (r"\]\((?:\.\./)+README\.md\)", r"](ROOTindex.md)"),
    ):
        source[0] = re.sub(pattern, page.replace("ROOT", root), source[0])


def find_pages():
    """Pages of results and examples, and the files of the repository they are."""
    pages = {"results/index": BENCHMARKS / "RESULTS.md"}
    for file in sorted(BENCHMARKS.glob("RESULTS-*.md")):
        pages[f"results/{file.stem.removeprefix('RESULTS-')}"] = file
    for file in sorted((DOCS.parent / "examples").glob("*/README.md")):
        pages[f"examples/{file.parent.name}"] = file
    return pages


def write_pages(app):
    """Copies them, linked to each other."""
    for folder in ("results", "examples"):
        shutil.rmtree(DOCS / folder, ignore_errors=True)
        (DOCS / folder).mkdir()
    pages = find_pages()
    others = "\n".join(f"/{name}" for name in pages if name != "results/index")
    for name, file in pages.items():
        text = re.sub(r"\]\(RESULTS-(\w+)\.md", r"](\1.md", file.read_text())
        text = re.sub(r"\[([\w.]+\.(?:json|py))\]\(\1\)", r"`\1`", text)
        if name == "results/index":
            text += f"\n```{{toctree}}\n:hidden:\n{others}\n```\n"
        (DOCS / f"{name}.md").write_text(text)
    for picture in BENCHMARKS.glob("*.png"):
        shutil.copy(picture, DOCS / "results")


def skip_fields(app, what, name, member, skip, options):
    """Fields of named tuples: the class describes them."""
    return skip or type(member).__name__ == "_tuplegetter"


def shorten(app, what, name, obj, options, signature, result):
    """Array instead of the class's private address."""
    short = lambda text: text and text.replace("jaxlib._jax.Array", "Array")
    return short(signature), short(result)


def setup(app):
    app.connect("autodoc-process-signature", shorten)
    app.connect("autodoc-skip-member", skip_fields)
    app.connect("builder-inited", write_pages)
    app.connect("source-read", point_at_pages)
    app.connect("env-check-consistency", check_reference)
