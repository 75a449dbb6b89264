"""What the documents show of several results, or of a part of one: tables of text, computed, never typed."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from math import log

from sketchfusion_lite.evaluation.curves import bd_table
from sketchfusion_lite.evaluation.operating import PEER_NAMES
from sketchfusion_lite.evaluation.summary import equal_bytes, mean_rows
from sketchfusion_lite.evaluation.table import Row, read_table
from sketchfusion_workbook.lessons.published import load_published

from .common import RESULTS
from .rate_distortion import FULL_AT, OTHERS, RATES, TABLE
from .training_step import BATCH, CROP

LABELS = {"bytes": ("bytes", 0), "bpp": ("bpp", 4), "psnr": ("PSNR dB", 2)}
LABELS |= {"ms_ssim": ("MS-SSIM", 3), "lpips_alex": ("LPIPS-Alex", 3)}
LABELS |= {"lpips_vgg": ("LPIPS-VGG", 3), "dists": ("DISTS", 3)}
STAGES = {"preview": "preview", "refined": "refined", "refined:effort=5": "refined, effort 5"}
STAGES["lines"] = "lines only"
DIAL = {"refined:realism=0.0": "0, faithful", "refined:realism=0.5": "0.5"}
DIAL["refined"] = "1, realistic"
STEPS = {"refined": "1"} | {f"refined:steps={n}": str(n) for n in (2, 4, 8)}
PRECISION = {"refined": "float32", "refined:dtype=bfloat16": "bfloat16"}
PEERS = {f"{name}/auto": label for name, label in PEER_NAMES.items()}
ANCHOR = "vvc/auto"
GLANCE = {codec: f"**ours, {name}**" for codec, name in STAGES.items() if codec != "lines"} | {
    codec: PEERS[codec] for codec in ("avif/auto", ANCHOR)
}
# The published field; only what has a point near enough to the rate is shown.
FIELD = {
    "DiffEIC": "DiffEIC",
    "ELIC": "ELIC",
    "HiFiC": "HiFiC",
    "MS-ILLM (official)": "MS-ILLM",
    "No-GAN (official)": "MS-ILLM, no GAN",
    "PerCo": "PerCo",
    "RDEIC-2": "RDEIC",
    "RDEIC-5": "RDEIC",
    "StableCodec (official)": "StableCodec",
    "dc_vic_oasis": "DC-VIC",
    "dc_vic_patchgan": "DC-VIC",
}
NEAR = (0.03, 0.06)


@lru_cache(maxsize=1)
def rows() -> tuple[Row, ...]:
    """The result table."""
    return tuple(read_table(TABLE))


def means(
    codecs: dict[str, str],
    rates: Sequence[float] = (),
    called: str = "codec",
    table: Sequence[Row] | None = None,
) -> list[dict[str, str]]:
    """Means per rate of some codecs, in their order.

    Args:
        codecs: codec -> how it is called.
        rates: those shown; none for all.
        called: heading of that column.
        table: the rows; None for those of Kodak.
    """
    order = list(codecs)
    found = [row for row in mean_rows(table or rows()) if row["codec"] in codecs and row["fits"]]
    found = [row for row in found if not rates or row["rate"] in rates]
    found.sort(key=lambda row: (row["rate"], order.index(row["codec"])))
    return [
        {"budget": f"{row['rate']:g}", called: codecs[row["codec"]]}
        | {"fits": f"{row['fits']}/{row['photos']}", **_numbers(row, LABELS)}
        for row in found
    ]


def glance() -> list[dict[str, str]]:
    """Ours, two classical codecs and the published field about one rate, by LPIPS-Alex, the best first."""
    found = [
        row | {"name": GLANCE[row["codec"]], "by": "us"}
        for row in mean_rows(rows())
        if row["codec"] in GLANCE and row["rate"] == FULL_AT and row["fits"] == row["photos"]
    ]
    near = [
        point | {"name": FIELD[point["method"]], "by": point["source"].partition(":")[0]}
        for point in load_published()
        if point["method"] in FIELD and NEAR[0] <= point["bpp"] <= NEAR[1]
    ]
    # Of each name the last one stays: the nearest, and of two variants there the better.
    near.sort(key=lambda point: (-abs(log(point["bpp"] / FULL_AT)), -point["lpips_alex"]))
    field = {point["name"]: point for point in near}
    found = sorted([*found, *field.values()], key=lambda row: row["lpips_alex"])
    return [
        {"codec": row["name"], **_numbers(row, ("bpp", "psnr", "lpips_alex", "dists"))}
        | {"measured by": row["by"]}
        for row in found
    ]


def equal(
    ours: str, metric: str = "lpips_alex", rates: Sequence[float] = RATES
) -> list[dict[str, str]]:
    """Peers against a stage of ours at equal bytes: ratio of a distance, difference in PSNR, photos won."""
    label = LABELS[metric][0]
    found = equal_bytes(rows(), ours, list(PEERS), rates, metric)
    table = []
    for codec, name in PEERS.items():
        line = {f"{label} of ours / theirs (PSNR), at": name}
        for row in (row for row in found if row["codec"] == codec):
            line[f"{row['rate']:g} bpp"] = _against(row)
        table.append(line)
    return table


def bd() -> list[dict[str, str]]:
    """BD-rates against VVC at the size that fits."""
    metrics = {"psnr": "PSNR", "lpips_alex": "LPIPS-Alex"}
    names = {"refined": "ours, refined", "preview": "ours, preview"} | PEERS
    found = bd_table(rows(), ANCHOR, [name for name in names if name != ANCHOR], list(metrics))
    table = []
    for codec in (name for name in names if name != ANCHOR):
        line = {"codec": names[codec]}
        for metric, label in metrics.items():
            row = next(r for r in found if (r["codec"], r["metric"]) == (codec, metric))
            rate = row["bd_rate"]
            line[f"BD-rate, {label}"] = _why(row["note"]) if rate is None else f"{rate:+.0f} %"
            line[f"BD-{label}"] = _number(row["bd_metric"], 2 if metric == "psnr" else 3, "+")
        table.append(line)
    return table


def lines() -> list[dict[str, str]]:
    """The fused codec beside lines alone at less, as the paper does it, and the differences."""
    rate, less = FULL_AT, 0.03
    shown = {"refined": f"fused, {rate:g} bpp", "lines": f"lines alone, {less:g} bpp"}
    at = {"refined": rate, "lines": less}
    found = {r["codec"]: r for r in mean_rows(rows()) if at.get(r["codec"]) == r["rate"]}
    names = ("bpp", "psnr", "ms_ssim", "lpips_alex", "lpips_vgg", "dists")
    gained = {n: found["refined"][n] - found["lines"][n] for n in names}
    table = [{"codec": shown[c], **_numbers(found[c], names)} for c in shown]
    return [*table, {"codec": "difference", **_numbers(gained, names, "+")}]


def seconds() -> list[dict[str, str]]:
    """What one picture costs, a line a stage: sizes in float32, then bfloat16, then GPUs, which nobody measured."""
    table: dict[str, dict[str, str]] = {}
    for row in _speed(of_pictures=True):
        step, number, _ = row["step"].partition(", bfloat16")
        table.setdefault(step, {})[row["picture"] + number] = row["value"]
    heads = sorted(
        {head for line in table.values() for head in line},
        key=lambda h: ("," in h, int(h.split("x")[0])),
    )
    return [
        {"on two CPU cores": step}
        | {head: line.get(head, "") for head in heads}
        | {"on a GPU": "not measured"}
        for step, line in table.items()
    ]


def costs() -> list[dict[str, str]]:
    """The rest of what was measured of speed: the start of a process, and training."""
    return _speed(of_pictures=False)


def _speed(of_pictures: bool) -> list[dict[str, str]]:
    """Rows of the file that are about one picture of a size, or the others."""
    with (RESULTS / "speed.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    others = ("any", f"{BATCH} x {CROP}x{CROP}")
    return [row for row in rows if (row["picture"] not in others) == of_pictures]


def _why(note: str) -> str:
    """A short reason for a missing BD-rate."""
    if "overlap in" in note:
        return "too little overlap"
    if "overlap" in note:
        return "no overlap"
    return "bends back" if "every bit" in note else "too few points"


def _against(row: dict) -> str:
    if not row["compared"]:
        return f"does not fit; needs {row['needed_bpp']:.3f}" if row["needed_bpp"] else row["note"]
    if row["ratio"] is None:
        return "not measured"
    return f"{row['ratio']:.2f} ({row['d_psnr']:+.1f} dB; {row['wins']}/{row['compared']})"


def _number(value: float | None, digits: int, sign: str = "") -> str:
    return "" if value is None else f"{value:{sign}.{digits}f}"


def _numbers(row: Mapping, names: Iterable[str], sign: str = "") -> dict[str, str]:
    """Some values of a row under their headings."""
    return {LABELS[name][0]: _number(row[name], LABELS[name][1], sign) for name in names}


SUMMARIES = {
    "glance": glance,
    "kodak": lambda: means(STAGES),
    "peers": lambda: means(PEERS),
    "equal_bytes": lambda: equal("refined"),
    "equal_bytes_dists": lambda: equal("refined", "dists", (FULL_AT,)),
    "bd_rates": bd,
    "lines": lines,
    "precision": lambda: means(PRECISION, (FULL_AT,), "numbers"),
    "dial": lambda: means(DIAL, (FULL_AT,), "realism"),
    "steps": lambda: means(STEPS, (FULL_AT,), "steps"),
    "seconds": seconds,
    "costs": costs,
    "others": lambda: means(STAGES, table=tuple(read_table(OTHERS))),
}
