"""The site. `./run.sh docs` builds it, fails at any warning, and serves it here.

Nothing is fetched from elsewhere at reading time: fonts are the reader's own, formulas
are MathML, and the pages with sliders are copied in.
"""

import shutil
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

import infogan_jax
from infogan_jax import flags
from infogan_jax.apps.export import copy_programs

HERE = Path(__file__).parent
GENERATED = HERE / "reference" / "generated"

project = "infogan_jax"
author = "The infogan_jax authors"
version = release = infogan_jax.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "live", "reference/generated", "results/raw"]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_timeout = 900  # seconds, for a cell
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_ipywidgets_js = {}  # a progress bar as text: widgets would fetch their scripts
nb_mime_priority_overrides = [
    ("html", "application/vnd.jupyter.widget-view+json", None)
]
autodoc_typehints = "none"  # docstrings give shapes, which say more
autodoc_member_order = "bysource"
smartquotes = False  # which make dashes of flags
html_theme = "furo"
html_title = "infogan_jax"
html_static_path = ["static"]
html_css_files, html_js_files = ["site.css"], ["site.js"]
html_copy_source = html_show_sourcelink = False
html_math_renderer = "mathml"


def _visit_math(translator, node):
    is_block = isinstance(node, nodes.math_block)
    translator.body.append(tex2mathml(node.astext(), as_block=is_block))
    raise nodes.SkipNode


def _write_flags(app):
    """The page of flags, from the same table as --help."""
    lines = []
    for title, names in flags.HELP_SECTIONS.items():
        lines += [f"## {title}", ""]
        for name in names:
            flag = flags.FLAGS[name]
            shown = f" Default: `{flag.default}`."
            default = shown if flags.has_default(name) else ""
            lines += [f"`--{name}`", f": {flag.help}{default}", ""]
    GENERATED.mkdir(exist_ok=True)
    (GENERATED / "flags.md").write_text("\n".join(lines))


def _copy_live_pages(app, error):
    """The page and recognize.py beside each exported model of docs/live."""
    if error or app.builder.name != "html":
        return
    for model in (HERE / "live").glob("*/"):
        target = Path(app.outdir) / "live" / model.name
        shutil.copytree(model, target, dirs_exist_ok=True)
        copy_programs(target)


def setup(app):
    app.add_html_math_renderer("mathml", (_visit_math, None), (_visit_math, None))
    app.connect("builder-inited", _write_flags)
    app.connect("build-finished", _copy_live_pages)
