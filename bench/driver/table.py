"""Tables for a terminal."""


def render(header, rows):
    """Columns as wide as their widest cell; the first to the left, the others to the right."""
    cells = [list(map(str, row)) for row in [header, *rows]]
    widths = [max(len(row[i]) for row in cells if i < len(row)) for i in range(len(header))]
    lines = []
    for row in cells:
        parts = [
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths))
        ]
        parts += row[len(widths):]
        lines.append("  ".join(parts).rstrip())
    return "\n".join(lines)


def percent(value):
    return f"{100 * value:.1f} %"


def megabytes(value):
    """Bytes as MB, with the digits that matter."""
    value = value / 1e6
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def figure(value, noisy=False, digits=2):
    """A ratio; one digit less and a tilde where noise makes the last one meaningless."""
    return f"~{value:.{digits - 1}f}" if noisy else f"{value:.{digits}f}"
