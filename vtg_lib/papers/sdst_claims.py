"""Statements of the SDST paper that its own tables can confirm or contradict, each recomputed from printed
cells.

Statements whose numbers were lost from the text are here only where their wording alone can be checked.
"holds" means that the printed cells bear the statement out as it is worded; a deviation in the last digit
counts as a deviation.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd

from vtg_lib.papers.loader import load_paper
from vtg_lib.papers.sdst_checks import ALPHA, OURS, Claim, frame, friedman_check, nemenyi_check, rank_check

MR = ["R1@0.5", "R1@0.7", "mAP@0.5", "mAP@0.75", "mAP"]
HD = ["HD mAP", "HIT@1"]
Outcome = tuple[str, bool]


def _gain(table: str, row: str, reference: str) -> pd.Series:
    """Row minus reference, rounded to what is printed."""
    f = frame(table)
    return (f.loc[row] - f.loc[reference]).round(2)


def _show(gains: pd.Series) -> str:
    return ", ".join(f"{name} {value:+.2f}" for name, value in gains.items() if not math.isnan(value))


def _all_columns(table: str, row: str, others: list[str] | None = None) -> Outcome:
    """Is `row` at least as good as every other row in every column?"""
    f = frame(table)
    others = [label for label in f.index if label != row] if others is None else others
    worse = [
        f"{name}: {other} {f.loc[other, name]:.2f} > {f.loc[row, name]:.2f}"
        for other in others
        for name in f.columns
        if not name.startswith("#") and f.loc[other, name] > f.loc[row, name]
    ]
    return ("; ".join(worse) or "better or equal in every column", not worse)


def _beats_sg_detr() -> Outcome:
    f = frame("tab1").drop(columns="#Params (M)")
    ours, other = f.loc[OURS], f.loc["SG-DETR†"]
    parts, wins = [], ours > other
    for split in ("test", "val"):
        names = [name for name in f.columns if name.startswith(split) and not math.isnan(other[name])]
        parts.append(
            f"{split}: ahead in {int(wins[names].sum())}, equal in {int((ours == other)[names].sum())} of {len(names)}"
        )
    return "; ".join(parts), int(wins.sum()) >= 2


def _parameters_saved() -> Outcome:
    saved = 100 * (1 - frame("tab1").loc[OURS, "#Params (M)"] / frame("tab1").loc["SG-DETR†", "#Params (M)"])
    return f"{saved:.1f} % fewer than SG-DETR", round(saved) == 73


def _sota_tacos() -> Outcome:
    f = frame("tab2")
    best = {name: f[name].idxmax() for name in f.columns}
    others = [f"{name}: {label} {f.loc[label, name]}" for name, label in best.items() if label != OURS]
    return "; ".join(others) or "best in every column", not others


def _appendix_e() -> Outcome:
    f = frame("tabC").drop(index="R2-Tuning")
    behind = [name for name in f.columns if f[name].idxmax() != "Ours"]
    return f"behind in: {', '.join(behind) or 'nothing'}", behind == ["TACoS R1@0.5"]


def _copied_row() -> Outcome:
    c, i = frame("tabC").loc["R2-Tuning"], frame("tabI")
    equal = {label: int((c == i.loc[label]).sum()) for label in ("R2-Tuning", "LST")}
    return (
        f"equal cells: {equal['R2-Tuning']} of 6 with its row in Tab. I, {equal['LST']} of 6 with LST's",
        equal["R2-Tuning"] == 6,
    )


def _last_level() -> Outcome:
    f = frame("tabK")["mAP"]
    gains = {k: round(f[f"K={k}, last level"] - f[f"K={k}, intermediate"], 2) for k in (2, 3, 4, 5)}
    text = ", ".join(f"K={k} {gain:+.2f}" for k, gain in gains.items())
    return f"mAP, last level minus intermediate: {text}", gains[2] > 0 and gains[3] > 0 > max(
        gains[4], gains[5]
    )


def _initialisation() -> Outcome:
    gains = {row: _gain("tab5", f"Def. CA + {row}", "Def. CA") for row in ("PureInit", "MixedInit")}
    text = "; ".join(f"{row}: {_show(gain[MR])}" for row, gain in gains.items())
    return text, all((gain[MR] <= 0).all() for gain in gains.values())


def _lengths() -> Outcome:
    printed = pd.Series(load_paper("sdst").table("tabL").row("Ours").also["gain"])
    recomputed = _gain("tabL", "Ours", "Def. CA")
    return _show(recomputed), bool((printed.round(2) == recomputed).all())


def _ca_and_sa() -> Outcome:
    ca, sa = (_gain("tab7", f"without {name}", "Ours") for name in ("CA", "SA"))
    names = ["R1@0.5", "R1@0.7", "mAP"]
    holds = ca["R1@0.5"] < sa["R1@0.5"] and ca["R1@0.7"] < sa["R1@0.7"] and sa["mAP"] < ca["mAP"]
    return f"without CA: {_show(ca[names])}; without SA: {_show(sa[names])}", bool(holds)


def _ffn() -> Outcome:
    gain = _gain("tab7", "without FFN", "Ours")
    return f"without FFN: {_show(gain)}", bool((gain <= 0).all())


def _conditioning_hd() -> Outcome:
    f = frame("tab6")[HD]
    best = {name: f[name].idxmax() for name in HD}
    return ", ".join(f"best {name}: {row} {f.loc[row, name]:.2f}" for name, row in best.items()), set(
        best.values()
    ) == {"Post CA+SA+FFN"}


def _losses() -> Outcome:
    f = frame("tabE")
    better = [
        f"{name}: {row} {f.loc[row, name]:.2f}"
        for row in f.index
        for name in f.columns
        if f.loc[row, name] > f.loc["Ours", name]
    ]
    return "better without: " + ("; ".join(better) or "nowhere"), not better


def _permutation_spread(ddof: int, digits: Callable[[pd.Series], pd.Series]) -> Outcome:
    f = frame("tabF").drop(index="Mean ± Std")
    row = load_paper("sdst").table("tabF").row("Mean ± Std")
    mean, sd = digits(f.mean()), digits(f.std(ddof=ddof))
    printed_sd = row.also["sd"]
    off = [
        f"{name}: {mean[name]:.2f} ± {sd[name]:.2f} for {row.paper[name]:.2f} ± {printed_sd[name]:.2f}"
        for name in f.columns
        if abs(mean[name] - row.paper[name]) > 0.005 or abs(sd[name] - printed_sd[name]) > 0.005
    ]
    return "; ".join(off) or "equal in every column", not off


def _rounded(values: pd.Series) -> pd.Series:
    return values.round(2)


def _cut(values: pd.Series) -> pd.Series:
    return np.floor(values * 100 + 1e-6) / 100


def _permutation_ranks() -> Outcome:
    tab1, mean = frame("tab1"), frame("tabF").loc["Mean ± Std"]
    moved = []
    for name in mean.index:
        column = tab1[f"val {name}"].drop(index=OURS).dropna()
        before, after = (
            1 + int((column > value).sum()) for value in (tab1.loc[OURS, f"val {name}"], mean[name])
        )
        if before != after:
            moved.append(f"{name}: place {before} becomes {after}")
    return "; ".join(moved) or "every place stays", not moved


def _side_tuners() -> Outcome:
    f = frame("tabI")
    worse = [
        f"{name}: {row} {f.loc[row, name]:.2f}"
        for row in ("E3VA", "LoSA", "LST", "R2-Tuning")
        for name in f.columns
        if f.loc[row, name] < f.loc["w/o Tuning", name]
    ]
    return "worse than w/o Tuning: " + ("; ".join(worse) or "nowhere"), not worse


def _unshared() -> Outcome:
    gain = _gain("tabJ", "Not shared", "Shared")
    return f"{gain['#Params (M)']:+.2f} M; {_show(gain[MR + HD])}", bool((gain[MR + HD] < 0).all())


def _cnn_at_center() -> Outcome:
    gain = _gain("tabM", "c, CNN", "c")
    return f"CNN at the centre: {_show(gain)}", bool((gain <= 0).all())


def _early_text() -> Outcome:
    f = frame("tabN")["mAP"]
    by_place = f.groupby([label.split("-").index("CA") + 1 for label in f.index]).mean()
    text = ", ".join(f"CA at place {place}: {value:.2f}" for place, value in by_place.items())
    return f"mean mAP, {text}", bool(by_place.is_monotonic_decreasing)


def _ours_everywhere() -> Outcome:
    tab1, different = frame("tab1").loc[OURS], []
    for table in load_paper("sdst").tables:
        if table.reference is None or table.id not in OURS_TABLES:
            continue
        row = table.row(table.reference)
        different += [
            f"{table.title} {name} {value:.2f}"
            for name, value in row.paper.items()
            if value is not None and f"val {name}" in tab1 and value != tab1[f"val {name}"]
        ]
    return "; ".join(different) or "equal everywhere", not different


OURS_TABLES = {*(f"tab{i}" for i in "34567"), *(f"tab{i}" for i in "EFHJKLMN")}


def _friedman_p() -> Outcome:
    test = friedman_check()
    return (
        f"chi² {test.statistic:.2f}, p {test.p:.1e}, {test.blocks} blocks, {test.methods} methods",
        test.p > ALPHA,
    )


def _blocks() -> Outcome:
    complete = frame("tabO").dropna(axis=1).shape[1]
    return f"{complete} of {frame('tabO').shape[1]} columns rank all nine methods", complete == frame(
        "tabO"
    ).shape[1]


def _printed_ranks() -> Outcome:
    wrong = rank_check()
    dense = int((wrong["printed rank"] == wrong["dense rank"]).sum())
    cells = int(frame("tabO").notna().sum().sum())
    return f"{len(wrong)} of {cells} cells differ, {dense} of them by a tie counted as one place", wrong.empty


def _nemenyi() -> Outcome:
    table = nemenyi_check()
    off = table[~table["agrees"]]
    text = "; ".join(f"{m}: p {p:.2f}" for m, p in zip(off["method"], off["recomputed p"], strict=True))
    return f"not different by our count: {text}" if text else "all decisions agree", off.empty


def _nemenyi_order() -> Outcome:
    table = nemenyi_check()
    inside = table[
        (table["rank difference"].abs() < table["critical difference"]) & table["printed different"]
    ]
    text = ", ".join(
        f"{m} {d:+.1f}" for m, d in zip(inside["method"], inside["rank difference"], strict=True)
    )
    return (
        f"below the critical difference {table['critical difference'].iloc[0]:.2f}: {text or 'none'}",
        inside.empty,
    )


CLAIMS: tuple[Claim, ...] = (
    Claim(
        place="Abstract",
        claim="reduces the parameter count against the state of the art (arXiv abstract: by 73 %)",
        printed="73 %",
        check=_parameters_saved,
    ),
    Claim(
        place="Sec. 5.2",
        claim="surpasses SG-DETR on several metrics of Tab. 1",
        printed="several",
        check=_beats_sg_detr,
    ),
    Claim(
        place="Sec. 5.2",
        claim="state of the art on Charades-STA and TACoS",
        printed="both",
        check=_sota_tacos,
    ),
    Claim(
        place="App. E",
        claim="better than the second best in all metrics but TACoS R1@0.5",
        printed="all but one",
        check=_appendix_e,
    ),
    Claim(
        place="App. E, H",
        claim="Tab. C and Tab. I print R2-Tuning on the same features and data",
        printed="the same row",
        check=_copied_row,
    ),
    Claim(
        place="Tabs. 3-N",
        claim="our row is the same run as in Tab. 1",
        printed="the same row",
        check=_ours_everywhere,
    ),
    Claim(
        place="Sec. 6.1",
        claim="last-level features win at small K, intermediate ones at larger K",
        printed="K = 2, 3 against 4, 5",
        check=_last_level,
    ),
    Claim(
        place="Sec. 6.2",
        claim="RDSA beats every other attention on every metric",
        printed="consistently",
        check=lambda: _all_columns("tab5", "Ours"),
    ),
    Claim(
        place="Sec. 6.2",
        claim="initialising the queries does not improve deformable CA",
        printed="far from improving",
        check=_initialisation,
    ),
    Claim(
        place="Sec. 6.3",
        claim="conditioning on the FFN output also enhances HD",
        printed="enhances",
        check=_conditioning_hd,
    ),
    Claim(place="Sec. 6.4", claim="CA matters more for R1, SA more for mAP", printed="", check=_ca_and_sa),
    Claim(place="Sec. 6.4", claim="the final FFN is beneficial", printed="beneficial", check=_ffn),
    Claim(
        place="App. G",
        claim="removing a loss worsens every metric",
        printed="the need for the losses",
        check=_losses,
    ),
    Claim(
        place="App. G",
        claim="mean ± standard deviation of the five settings (n - 1)",
        printed="Tab. F",
        check=lambda: _permutation_spread(1, _rounded),
    ),
    Claim(
        place="App. G",
        claim="mean ± standard deviation of the five settings (n, last digit cut)",
        printed="Tab. F",
        check=lambda: _permutation_spread(0, _cut),
    ),
    Claim(
        place="App. G",
        claim="the mean of the five settings ranks as the chosen one in Tab. 1",
        printed="equally",
        check=_permutation_ranks,
    ),
    Claim(
        place="App. H",
        claim="SDST improves on every other tuning method",
        printed="all",
        check=lambda: _all_columns("tabH", "Ours"),
    ),
    Claim(
        place="App. H",
        claim="on Charades-STA and TACoS, too, side-tuners improve on no tuning",
        printed="similar results",
        check=_side_tuners,
    ),
    Claim(
        place="App. I",
        claim="unsharing adds parameters and degrades every metric",
        printed="all the tested metrics",
        check=_unshared,
    ),
    Claim(
        place="App. K, Tab. L",
        claim="gain over deformable CA by length",
        printed="+0.74, +0.47, +2.84, +1.33",
        check=_lengths,
    ),
    Claim(
        place="App. K, Tab. M",
        claim="the CNN harms the centre embedding",
        printed="harms",
        check=_cnn_at_center,
    ),
    Claim(
        place="App. L, Tab. N",
        claim="the earlier the text is injected, the better",
        printed="as early as possible",
        check=_early_text,
    ),
    Claim(
        place="App. M, Tab. O",
        claim="the ranks follow from Tabs. 1 and 2",
        printed="Tab. O",
        check=_printed_ranks,
    ),
    Claim(
        place="App. M.1",
        claim="Friedman's test is over all metrics of the three data sets",
        printed="number lost",
        check=_blocks,
    ),
    Claim(
        place="App. M.1",
        claim="Friedman's p is greater than 0.05",
        printed="greater than 0.05",
        check=_friedman_p,
    ),
    Claim(
        place="App. M.2, Tab. P",
        claim="different from all methods but SG-DETR by Nemenyi's test",
        printed="7 of 8",
        check=_nemenyi,
    ),
    Claim(
        place="App. M.2, Tab. P",
        claim="methods called different are further apart than the critical difference",
        printed="7 of 8",
        check=_nemenyi_order,
    ),
)

assert np.unique([c.claim for c in CLAIMS]).size == len(CLAIMS)
