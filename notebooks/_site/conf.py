"""Settings of the site that `python -m helpers site` builds (helpers/course/site.py)."""

from docutils import nodes

from helpers.course import notebooks

project = html_title = "Learning from video"
language = "en"
extensions = ["myst_nb"]

# Nothing is run, and nothing is loaded from elsewhere: no widgets, formulas are MathML.
nb_execution_mode = "off"
nb_ipywidgets_js = {}
myst_enable_extensions = ["dollarmath"]
myst_update_mathjax = False
myst_heading_anchors = 4
html_math_renderer = "mathml"

html_theme = "furo"
html_theme_options = {"top_of_page_buttons": []}
html_css_files = html_static_path = ["look.css", "site.css"]
html_logo = html_favicon = "icon.svg"
pygments_style, pygments_dark_style = notebooks.CODE_STYLES
html_copy_source = html_show_sourcelink = html_show_copyright = html_show_sphinx = html_use_index = False

linkcheck_timeout, linkcheck_retries, linkcheck_anchors = 30, 2, False


def _formula(block):
    """A visitor that writes a formula as MathML."""

    def visit(translator, node):
        translator.body.append(notebooks.mathml(node.astext(), block=block))
        raise nodes.SkipNode

    return visit, None


def setup(app):
    """Have formulas typeset while the site is built."""
    app.add_html_math_renderer("mathml", _formula(False), _formula(True))
