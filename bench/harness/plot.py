"""The plot beside the README's table: horizontal bars of CPU time per request, as SVG that follows the reader's light
or dark theme. Written by hand, since a plotting library would be the heaviest thing the project installs."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from harness.report import US
from harness.targets import Results

WIDTH = 760
LABEL_WIDTH = 150
VALUE_WIDTH = 70
ROW_HEIGHT = 22
BAR_HEIGHT = 14
TITLE_HEIGHT = 40
MARGIN = 16

STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .title { font-weight: 600; font-size: 15px }
  .bar { fill: #8c959f }
  .us { fill: #1a7f37 }
  .floor { fill: #d0d7de }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .bar { fill: #768390 }
    .us { fill: #3fb950 }
    .floor { fill: #444c56 }
  }
"""


@dataclass(frozen=True)
class Bar:
    """One server."""

    server: str
    value: float


@dataclass(frozen=True)
class Panel:
    """One workload: a title over its bars, which have a scale of their own."""

    title: str
    bars: list[Bar]

    @property
    def height(self) -> int:
        return TITLE_HEIGHT + ROW_HEIGHT * len(self.bars)


def render(results: Results) -> str | None:
    """The plot of hello and Flask; None when neither was measured."""
    titles = {"hello": "Hello, 64 keep-alive connections", "flask": "Flask hello, 64 keep-alive connections"}
    panels = [panel(results, name, title) for name, title in titles.items() if name in results.cells]
    panels = [panel for panel in panels if panel.bars]
    return document(panels) if panels else None


def panel(results: Results, workload: str, title: str) -> Panel:
    """Cheapest server first. Marked numbers stay out: a bar has no room to say what is wrong with it."""
    cells = results.cells[workload]
    sound = [Bar(name, cell.cpu_us) for name, cell in cells.items() if not cell.fails and not cell.flaws]
    return Panel(f"{title}: CPU µs per request", sorted(sound, key=lambda bar: bar.value))


def document(panels: list[Panel]) -> str:
    height = MARGIN + sum(panel.height + MARGIN for panel in panels)
    size = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">', f"<style>{STYLE}</style>"]
    top = MARGIN
    for panel in panels:
        lines += panel_lines(panel, top)
        top += panel.height + MARGIN
    return "\n".join([*lines, "</svg>"]) + "\n"


def panel_lines(panel: Panel, top: int) -> list[str]:
    room = WIDTH - LABEL_WIDTH - VALUE_WIDTH - 2 * MARGIN
    longest = max(bar.value for bar in panel.bars)
    lines = [f'<text class="title" x="{MARGIN}" y="{top + 18}">{escape(panel.title)}</text>']
    for index, bar in enumerate(panel.bars):
        y = top + TITLE_HEIGHT + index * ROW_HEIGHT
        length = max(1.0, room * bar.value / longest)
        kind = {US: "bar us", "floor": "bar floor"}.get(bar.server, "bar")
        left = MARGIN + LABEL_WIDTH
        lines += [
            f'<text x="{left - 8}" y="{y + 12}" text-anchor="end">{escape(bar.server)}</text>',
            f'<rect class="{kind}" x="{left}" y="{y}" width="{length:.1f}" height="{BAR_HEIGHT}" rx="2"/>',
            f'<text x="{left + length + 6:.1f}" y="{y + 12}">{bar.value:.1f}</text>',
        ]
    return lines
