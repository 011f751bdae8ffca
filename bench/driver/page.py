"""The report as one HTML file that needs no other."""

import base64
import html
import platform
import time

from . import goals, stats, table

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
img { max-width: 100%; } table { border-collapse: collapse; margin: 1rem 0; }
td, th { padding: .15rem .7rem; text-align: right; border-bottom: 1px solid #ddd; }
td:first-child, th:first-child, td.note { text-align: left; } td.missed { font-weight: bold; }
"""


def cell(value, kind=""):
    attribute = f' class="{kind}"' if kind else ""
    return f"<td{attribute}>{html.escape(str(value))}</td>"


def goals_table(found):
    rows = []
    for goal in goals.evaluate(found):
        what, bound, figure, verdict, note = goal.row()
        kind = "missed" if verdict == "MISSED" else ""
        rows.append(f"<tr>{cell(what)}{cell(bound)}{cell(figure)}{cell(verdict, kind)}{cell(note, 'note')}</tr>")
    return "<table><tr><th>goal<th>bound<th>figure<th>verdict<th></tr>" + "".join(rows) + "</table>"


def group_table(group, cases):
    rows = []
    for case, allocators in cases.items():
        base = (allocators.get("builtin") or next(iter(allocators.values())))["time"]
        for name, figures in allocators.items():
            against = stats.compare(figures["time"], base)
            rows.append(
                "<tr>" + cell(f"{case} {name}") + cell(table.figure(against.minimum, against.noisy))
                + cell(table.figure(against.median, against.noisy)) + cell(table.percent(against.spread))
                + cell("noisy" if against.noisy else "", "note") + "</tr>"
            )
    head = f"<table><tr><th>{html.escape(group)}<th>minimum<th>median<th>spread<th></tr>"
    return f"<details><summary>{html.escape(group)}: figures</summary>{head}{''.join(rows)}</table></details>"


def picture(path, title):
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return f'<p><img alt="{html.escape(title)}" src="data:image/png;base64,{data}"></p>'


def render(found, pictures):
    machine = f"{platform.machine()}, {platform.system()} {platform.release()}"
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>Allocators for LuaJIT, compared</title>",
        f"<style>{STYLE}</style><h1>Allocators for LuaJIT, compared</h1>",
        f"<p>{time.strftime('%Y-%m-%d')}, {html.escape(machine)}. Ratios of medians of interleaved runs to LuaJIT's ",
        "built-in allocator; error bars and spread are between the quartiles. How it is measured: ",
        "<code>bench/README.md</code>.</p>",
        "<h2>Goals</h2>", goals_table(found), "<h2>Pictures</h2>",
        *(picture(path, title) for path, title in pictures),
        "<h2>Figures</h2>",
        *(group_table(group, cases) for group, cases in found.items() if group != "timeline"),
        "</html>\n",
    ]
    return "\n".join(parts)
