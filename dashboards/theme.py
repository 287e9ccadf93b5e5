"""How everything looks: one colour per role, the same on every page, and one plain chart style."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # whoever starts a dashboard takes its colours from here
    import plotly.graph_objects as go

INK = "#20262E"
MUTED = "#6C7480"
FAINT = "#C9CDD3"
LINE = "#E8E5DF"
PAPER = "#FBFAF7"
CARD = "#FFFFFF"

STABLE = "#3C6E9F"
CANARY = "#D98A2B"
BASELINE = "#8B919B"
WINNER = "#23866F"
OTHER = "#A9BFD6"
LIMIT = "#C0504A"
GOOD = WINNER
WARN = "#B57A1B"
BAD = LIMIT

FONT = "Source Sans, Source Sans Pro, system-ui, sans-serif"
CHART = {"displayModeBar": False, "scrollZoom": False}

LOGO = f"""<svg xmlns="http://www.w3.org/2000/svg" width="150" height="32" viewBox="0 0 150 32">
<g stroke-width="3" stroke-linecap="round"><path d="M4 8h18M4 16h18M4 24h18" stroke="{FAINT}"/></g>
<circle cx="17" cy="8" r="4" fill="{STABLE}"/><circle cx="9" cy="16" r="4" fill="{CANARY}"/>
<circle cx="14" cy="24" r="4" fill="{WINNER}"/>
<text x="32" y="22" font-family="system-ui, sans-serif" font-size="19" font-weight="600" fill="{INK}">Fleetune</text>
</svg>"""

STREAMLIT_OPTIONS = {
    "theme.base": "light",
    "theme.primaryColor": STABLE,
    "theme.backgroundColor": PAPER,
    "theme.secondaryBackgroundColor": "#F2F0EB",
    "theme.textColor": INK,
    "theme.borderColor": LINE,
    "theme.baseRadius": "8px",
    "theme.showWidgetBorder": "true",
}

CSS = f"""
<style>
.block-container {{ padding-top: 2.6rem; padding-bottom: 4rem; max-width: 1240px;
  padding-left: 2rem; padding-right: 2rem; }}
[data-testid="stSidebarNav"] a span {{ font-size: 0.98rem; }}
[data-testid="stHeader"] {{ background: transparent; }}
[data-stale="true"] {{ opacity: 1 !important; }}
h1 {{ font-size: 1.75rem !important; letter-spacing: -0.01em; padding: 0 !important; margin: 0 !important; }}
[class*="st-key-card-"] {{ background: {CARD}; }}
h3 {{ font-size: 1.08rem !important; padding: 1.1rem 0 0.2rem 0 !important; }}
.ft-sub {{ color: {MUTED}; font-size: 0.95rem; }}
.ft-grid {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(138px, 1fr)); gap: 12px; }}
.ft-card {{ background: {CARD}; border: 1px solid {LINE}; border-radius: 10px; padding: 14px 16px 12px; }}
.ft-card .l {{ color: {MUTED}; font-size: 0.82rem; display: flex; gap: 7px; align-items: center; }}
.ft-card .v {{ font-size: 1.9rem; font-weight: 600; line-height: 1.25; font-variant-numeric: tabular-nums; }}
.ft-card .v b {{ font-weight: inherit; }}
.ft-card .u {{ font-size: 0.95rem; font-weight: 400; color: {MUTED}; margin-left: 4px; white-space: nowrap; }}
.ft-card .s {{ color: {MUTED}; font-size: 0.82rem; }}
.ft-dot {{ width: 8px; height: 8px; border-radius: 50%; display: inline-block; flex: none; }}
.ft-pill {{ display: inline-block; border-radius: 999px; padding: 1px 10px; font-size: 0.8rem; font-weight: 600;
  border: 1px solid currentColor; white-space: nowrap; }}
.ft-emulated {{ background: #FDF5E6; border: 1px solid #EBD5A8; color: #7A5410; border-radius: 8px;
  padding: 6px 12px; font-size: 0.88rem; margin: 2px 0 4px; }}
.ft-note {{ background: {CARD}; border: 1px solid {LINE}; border-radius: 10px; padding: 22px 26px; }}
.ft-note b {{ font-size: 1.1rem; }}
.ft-note p {{ color: {MUTED}; margin: 6px 0 0; }}
.ft-note code {{ background: #F2F0EB; color: {INK}; border-radius: 6px; padding: 3px 8px; font-size: 0.88rem; }}
.ft-flags {{ color: {MUTED}; font-size: 0.82rem; line-height: 1.3; min-width: 130px; overflow-wrap: anywhere; }}
.ft-flags.wrap {{ min-width: 170px; }}
.ft-steps {{ display: flex; align-items: flex-start; margin: 6px 0 2px; }}
.ft-step {{ flex: 1; position: relative; text-align: center; font-size: 0.84rem; color: {MUTED}; }}
.ft-step .c {{ width: 46px; height: 46px; border-radius: 50%; margin: 0 auto 6px; display: flex; align-items: center;
  justify-content: center; font-weight: 600; background: {CARD}; border: 2px solid {FAINT}; position: relative;
  z-index: 1; font-size: 0.9rem; }}
.ft-step:not(:first-child)::before {{ content: ""; position: absolute; top: 23px; left: -50%; width: 100%; height: 2px;
  background: {FAINT}; }}
.ft-bar {{ display: flex; height: 30px; border-radius: 8px; overflow: hidden; font-size: 0.84rem; color: #fff;
  font-weight: 600; }}
.ft-bar div {{ display: flex; align-items: center; justify-content: center; white-space: nowrap; overflow: hidden; }}
.ft-gpus {{ display: flex; flex-wrap: wrap; gap: 8px; }}
.ft-gpu {{ width: 92px; border-radius: 8px; padding: 8px 10px; font-size: 0.78rem; line-height: 1.25; color: #fff; }}
.ft-gpu b {{ display: block; font-size: 0.95rem; }}
.ft-gpu.free {{ background: {CARD}; color: {MUTED}; border: 1px dashed {FAINT}; }}
table.ft {{ border-collapse: collapse; width: 100%; font-size: 0.92rem; font-variant-numeric: tabular-nums; }}
table.ft th, table.ft td {{ text-align: left; padding: 6px 10px; border-bottom: 1px solid {LINE}; }}
table.ft th {{ color: {MUTED}; font-weight: 500; }}
table.ft tr:last-child td {{ border-bottom: none; }}
table.ft td.n, table.ft th.n {{ text-align: right; }}
table.ft td.n {{ white-space: nowrap; }}
table.ft td {{ overflow-wrap: anywhere; vertical-align: top; }}
@media (max-width: 768px) {{ .block-container {{ padding-top: 4.2rem; }} }}
</style>
"""


def styled(figure: go.Figure, *, x: str, y: str, height: int = 300, legend: bool = True) -> go.Figure:
    """Give a figure the one chart style: white, thin grid, titles with units, legend on top."""
    figure.update_layout(
        height=height,
        margin={"l": 4, "r": 8, "t": 26 if legend else 10, "b": 4},
        paper_bgcolor=CARD,
        plot_bgcolor=CARD,
        font={"family": FONT, "size": 13, "color": INK},
        hoverlabel={"font": {"family": FONT}},
        showlegend=legend,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "title": None},
        uirevision="keep",
    )
    figure.update_xaxes(title=_title(x), **_AXIS)
    figure.update_yaxes(title=_title(y), **_AXIS)
    return figure


def limit_line(figure: go.Figure, value: float, text: str, **where: Any) -> None:
    """Draw a limit across the figure, dashed and named."""
    figure.add_hline(
        y=value,
        line={"color": LIMIT, "width": 1.5, "dash": "dash"},
        annotation={"text": text, "font": {"color": LIMIT, "size": 12}, "xanchor": "left", "x": 0},
        annotation_position="top left",
        **where,
    )


def _title(text: str) -> dict[str, Any]:
    return {"text": text or None, "standoff": 10, "font": {"size": 12, "color": MUTED}}


_AXIS = {
    "gridcolor": "#F0EEE9",
    "linecolor": LINE,
    "zeroline": False,
    "tickfont": {"color": MUTED, "size": 12},
    "automargin": True,
}
