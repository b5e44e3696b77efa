"""The tables of a results file: as text on the screen, and as Markdown on the pages."""


def text(told: dict) -> str:
    """A results file as plain text."""
    lines = [f"== {told['title']} ({place(told)}; median of {told['runs']})"]
    for one in told["comparisons"]:
        lines.append(f"\n{one['model']}: {_sizes(one)}")
        for agreed in one.get("agreements", ()):
            lines.append(
                f"  agrees: {agreed['what']} of {agreed['with']}: {agreed['apart']:.1e} apart, "
                f"{agreed['tolerance']:g} allowed ({agreed['why']})"
            )
        if one["rows"]:
            head = ["", "CPU s", "wall s", "timed", "peak MB", "ratio", "by count", "target"]
            lines += _aligned([head, *([row["name"], *_cells(row, told)] for row in one["rows"])])
        for name, value in (one.get("memory") or {}).items():
            lines.append(f"  {name}: {_plain(value)}")
        if "tflops" in one:
            lines.append(f"  TFLOP/s: {_plain(one['tflops'])}; part {one['part']}")
    return "\n".join(lines)


def markdown(files: list[dict], *, first: bool = False) -> str:
    """A row for each way that irlib is measured against; with `first` one a comparison alone."""
    lines = []
    for where, runs in dict.fromkeys((place(told), told["runs"]) for told in files):
        mine = [told for told in files if (place(told), told["runs"]) == (where, runs)]
        lines += [
            f"Measured on {where}; medians of {runs} alternating rounds.",
            "",
            "| what | model | irlib | measured against | its time | ratio [range] | by count "
            "| target | memory, irlib / other |",
            "|---" * 9 + "|",
        ]
        for told in mine:
            shown = [(one, row) for one in told["comparisons"] for row in one["rows"][1:]]
            lines += [_row(told, *pair) for pair in shown[: 1 if first else None]]
        lines.append("")
    return "\n".join(lines).strip()


def line(one: dict, clock: str) -> str:
    """A part of benchmarks.gpu as text: what it reached against each way, goals met or not met."""
    head = f"\n{one['part']}, {one['attention']}, prompts at once: {one['prompts']}"
    if "why" in one:
        return f"{head}: {'FAILED' if one.get('failed') else 'left out'}: {one['why']}"
    lines = [f"{head} ({one['kernels']}; {len(one['rows'][0]['runs'])} rounds)"]
    for agreed in one["agreements"]:
        lines.append(f"  agrees with {agreed['with']}: {agreed['apart']:.1e} apart")
    table = [["", "s", "timed", "rate", "ratio [lowest, highest]", "goal", "GB in use"]]
    for row in one["rows"]:
        rate = one["rates"].get(row["name"], ["", ""])
        most = row["whole_once"]["in_use_mb"]
        goal = _target(row).replace("not reached", "NOT met").replace("reached", "met")
        table.append([
            row["name"], f"{row[f'{clock}_s']:.3g}", row["timed"], " ".join(map(str, rate)).strip(),
            "" if row is one["rows"][0] else _ratio(row, 2), goal,
            "unknown" if most is None else f"{most / 1e3:.2f}",
        ])  # fmt: skip
    return "\n".join(lines + _aligned(table))


def _row(told, one, row) -> str:
    ours, clock = one["rows"][0], f"{told['clock']}_s"
    part = "" if row["timed"] == "all" else f" (from {row['timed']})"
    cells = [
        told["title"], one["model"], _seconds(ours[clock]), row["name"],
        _seconds(row[clock]) + part, _ratio(row), f"{_counted(row)}",
        _target(row), f"{_peak(ours)} / {_peak(row)}",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _cells(row, told):
    return [
        f"{row['cpu_s']:.3g}", f"{row['wall_s']:.3g}", row["timed"], _peak(row, unit=""),
        _ratio(row), _counted(row), _target(row),
    ]  # fmt: skip


def _ratio(row, digits: int = 1) -> str:
    """Their time over ours; where the question is what irlib costs of it, ours over theirs."""
    ratio = [row["ratio"][key] for key in ("median", "lowest", "highest")]
    if row["cost"]:
        ratio = [1 / ratio[0], 1 / ratio[2], 1 / ratio[1]]
        return f"irlib takes {ratio[0]:.2f} of it [{ratio[1]:.2f}, {ratio[2]:.2f}]"
    median, lowest, highest = (f"{value:.{digits}f}" for value in ratio)
    return f"{median}x [{lowest}, {highest}]"


def _counted(row) -> str:
    return f"{1 / row['counted']:.2f}" if row["cost"] else f"{row['counted']:.1f}x"


def _target(row) -> str:
    wanted = row["target"]
    if wanted is None:
        return ""
    kind = "at most" if row["cost"] else "at least"
    return f"{kind} {wanted:g}: {'reached' if reached(row) else 'not reached'}"


def reached(row: dict) -> bool:
    """Whether a row's ratio is what was hoped for."""
    wanted, ratio = row["target"], row["ratio"]["median"]
    return 1 / ratio <= wanted if row["cost"] else ratio >= wanted


def _seconds(value) -> str:
    return f"{value:.2f} s" if value < 10 else f"{value:.0f} s"


def _peak(row, *, unit=" MB") -> str:
    peak = row["whole_once"]["peak_mb"]
    return "unknown" if peak is None else f"{peak:.0f}{unit}"


def place(told: dict) -> str:
    """What a results file was measured on, in words."""
    machine = told["machine"]
    threads = f"{machine['threads']} thread{'s' * (machine['threads'] > 1)}"
    gpu = f"{machine['gpu']}; " if "gpu" in machine else ""
    clock = "CPU seconds" if told["clock"] == "cpu" else "wall seconds"
    cpu = f"{machine['cpu']}, {threads} of {machine['cores']} cores"
    return f"{gpu}{cpu}, {machine['memory_gib']:.0f} GiB, {clock}"


def _sizes(one) -> str:
    words = ", ".join(f"{count} {name}" for name, count in one["tokens"].items())
    return f"{one['layers']} layers, hidden {one['hidden']}, {one['dtype']}; {words} tokens"


def _plain(value) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return " ".join(map(_plain, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _aligned(rows) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  "
        + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
