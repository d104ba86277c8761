"""Pieces of HTML: tables, pictures, and the page around them."""

import base64
import html
import io
from collections.abc import Iterable, Sequence

from matplotlib.figure import Figure


def table(
    header: Sequence[str], rows: Iterable[Sequence[str]], marked: Sequence[bool] = ()
) -> str:
    """Rows of text, some of them bold."""

    def line(cells: Sequence[str], tag: str, kind: str = "") -> str:
        inside = "".join(f"<{tag}>{html.escape(str(c))}</{tag}>" for c in cells)
        return f"<tr{kind}>{inside}</tr>"

    body = "".join(
        line(row, "td", ' class="chosen"' if i < len(marked) and marked[i] else "")
        for i, row in enumerate(rows)
    )
    return f'<div class="wide"><table>{line(header, "th")}{body}</table></div>'


def drawing(figure: Figure, text: str) -> str:
    """A figure of matplotlib, with a caption."""
    buffer = io.StringIO()
    # Without the date and a random id the same run gives the same page.
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    data = base64.b64encode(buffer.getvalue().encode()).decode()
    return image(f"data:image/svg+xml;base64,{data}", text)


def image(source: str, caption: str) -> str:
    """A picture, with a caption."""
    text = html.escape(caption)
    return (
        f'<figure><img src="{source}" alt="{text}"><figcaption>{text}</figcaption>'
        "</figure>"
    )


PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto;
  padding: 0 1rem; }}
h1 {{ font-weight: 600; }}
h2 {{ font-weight: 600; font-size: 1.2rem; margin-top: 2.5rem; }}
figure {{ margin: 1rem 0; }}
img {{ max-width: 100%; background: #fff; padding: 6px; border-radius: 4px; }}
figcaption {{ opacity: .75; font-size: .9rem; }}
.wide {{ overflow-x: auto; }}
.pairs {{ display: grid; gap: 0 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .2rem .7rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid #8884; }}
th {{ font-weight: 500; opacity: .75; }}
.chosen {{ font-weight: 700; }}
tr:hover td {{ background: #8882; }}
th button {{ all: unset; cursor: pointer; }}
th button:focus-visible {{ outline: 2px solid; }}
th[aria-sort=ascending] button::after {{ content: " \\2191"; }}
th[aria-sort=descending] button::after {{ content: " \\2193"; }}
pre {{ background: #8882; padding: .8rem; border-radius: 4px; overflow-x: auto; }}
</style>
<h1>{title}</h1>
{body}
<script>
// A click on the head of a column sorts a table by it, numbers as numbers.
const number = (text) => Number.parseFloat(text.replace("\u2212", "-"));
for (const head of document.querySelectorAll("th")) {{
  const button = document.createElement("button");
  button.append(...head.childNodes);
  head.append(button);
  button.onclick = () => {{
    const body = head.closest("tbody");
    const [first, ...rows] = body.rows;
    const way = head.ariaSort === "ascending" ? -1 : 1;
    for (const other of first.cells) other.removeAttribute("aria-sort");
    head.ariaSort = way > 0 ? "ascending" : "descending";
    const text = (row) => row.cells[head.cellIndex].textContent;
    rows.sort((a, b) => {{
      const [x, y] = [number(text(a)), number(text(b))];
      const isText = Number.isNaN(x) || Number.isNaN(y);
      return way * (isText ? text(a).localeCompare(text(b)) : x - y);
    }});
    body.append(...rows);
  }};
}}
</script>
</html>
"""
