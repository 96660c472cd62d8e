"""The QVHighlights protocol written out slowly, one query, one threshold and one prediction at a time.

It shares nothing with `vtg_lib.evaluation.protocol`. Sums and means are NumPy's, in submission order, because
a mean on half of the last printed digit rounds by its last bit.
"""

import numpy as np

THRESHOLDS = [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]


def evaluate(predictions, ground_truth):
    truth = {row["qid"]: row for row in ground_truth}
    nested, brief = {}, {}
    if "pred_relevant_windows" in predictions[0]:
        for name, low, high in (
            ("full", -np.inf, np.inf),
            ("short", 0, 10),
            ("middle", 10, 30),
            ("long", 30, 150),
        ):
            nested[name] = moments(predictions, truth, low, high)
        for key, name, kind, threshold in (
            ("MR-full-R1@0.5", "full", "MR-R1", "0.5"),
            ("MR-full-R1@0.7", "full", "MR-R1", "0.7"),
            ("MR-full-mAP", "full", "MR-mAP", "average"),
            ("MR-full-mAP@0.5", "full", "MR-mAP", "0.5"),
            ("MR-full-mAP@0.75", "full", "MR-mAP", "0.75"),
            ("MR-long-mAP", "long", "MR-mAP", "average"),
            ("MR-middle-mAP", "middle", "MR-mAP", "average"),
            ("MR-short-mAP", "short", "MR-mAP", "average"),
        ):
            brief[key] = nested[name][kind][threshold]
    if "pred_saliency_scores" in predictions[0]:
        for name, least in (("Fair", 2), ("Good", 3), ("VeryGood", 4)):
            scores = highlights(predictions, truth, least)
            nested[f"HL-min-{name}"] = scores
            brief[f"HL-min-{name}-mAP"], brief[f"HL-min-{name}-Hit1"] = scores["HL-mAP"], scores["HL-Hit1"]
    return {"brief": brief, **{name: nested[name] for name in sorted(nested)}}


def percent(value):
    return float(f"{100 * value:.2f}")


def moments(predictions, truth, low, high):
    pooled, last = {}, {}
    for row in predictions:
        pooled.setdefault(row["qid"], []).extend(row["pred_relevant_windows"][:10])
        last[row["qid"]] = row["pred_relevant_windows"]
    ap, overlap = [], []
    for qid in pooled:
        windows = [w for w in truth[qid]["relevant_windows"] if low < w[1] - w[0] <= high]
        if windows:
            ap.append([query_ap(pooled[qid], windows, threshold) for threshold in THRESHOLDS])
            overlap.append(first_iou(last[qid], windows))
    if not ap:
        return {
            "MR-mAP": dict.fromkeys([str(t) for t in THRESHOLDS] + ["average"], np.nan),
            "MR-R1": dict.fromkeys([str(t) for t in THRESHOLDS], np.nan),
        }
    mean = np.array(ap).mean(axis=0)
    return {
        "MR-mAP": {
            **{str(t): percent(m) for t, m in zip(THRESHOLDS, mean, strict=True)},
            "average": percent(np.mean(mean)),
        },
        "MR-R1": {str(t): percent(np.mean([iou >= t for iou in overlap])) for t in THRESHOLDS},
    }


def intersection(a, b):
    return max(0.0, min(a[1], b[1]) - max(a[0], b[0]))


def iou(a, b):
    common = intersection(a, b)
    union = (a[1] - a[0]) + (b[1] - b[0]) - common
    return common / union if union else np.nan  # no length on both sides


def query_ap(predictions, windows, threshold):
    """Greedy matching in the order of score, then the area under the precision envelope."""
    if not predictions:
        return 0.0
    free = set(range(len(windows)))
    correct = []
    for prediction in sorted(predictions, key=lambda window: -window[2]):
        overlaps = np.array([iou(prediction, window) for window in windows])
        # From the best on; an undefined IoU counts as the best.
        good = [g for g in overlaps.argsort()[::-1].tolist() if not overlaps[g] < threshold and g in free]
        free -= set(good[:1])
        correct.append(bool(good))
    precision = [sum(correct[: i + 1]) / (i + 1) for i in range(len(correct))]
    recall = [sum(correct[: i + 1]) / len(windows) for i in range(len(correct))]
    area, before = [], 0.0
    for i, reached in enumerate([*recall, 1.0]):
        if reached != before:
            area.append((reached - before) * max([*precision[i:], 0.0]))
        before = reached
    return np.sum(np.array(area))


def first_iou(predictions, windows):
    if not predictions:
        return 0.0
    first = predictions[0]
    overlaps = [iou(first, window) for window in windows]
    chosen = windows[int(np.argmax(overlaps))]
    hull = max(first[1], chosen[1]) - min(first[0], chosen[0])
    return intersection(first, chosen) / hull if hull else 0.0


def highlights(predictions, truth, least):
    ap, hit = [], []
    for qid, scores in {row["qid"]: row["pred_saliency_scores"] for row in predictions}.items():
        annotation = truth[qid]
        clips = int(annotation["duration"] / 2)
        labels = [[0, 0, 0] for _ in range(clips)]
        for clip, rating in zip(annotation["relevant_clip_ids"], annotation["saliency_scores"], strict=True):
            labels[clip] = rating
        top = scores.index(max(scores))
        hit.append(top < clips and max(labels[top]) >= least)
        scored = (list(scores) + [0.0] * clips)[:clips]
        ap.append([highlight_ap([label[k] >= least for label in labels], scored) for k in range(3)])
    return {"HL-mAP": percent(np.mean(np.array(ap))), "HL-Hit1": percent(np.mean(hit))}


def highlight_ap(positive, scores):
    """From the lowest threshold up: the best precision so far, averaged over the thresholds that gain
    positives.
    """
    best, gained = 0.0, []
    for threshold in sorted(set(scores)):
        at_least = [p for p, score in zip(positive, scores, strict=True) if score >= threshold]
        best = max(best, sum(at_least) / len(at_least))
        if any(p for p, score in zip(positive, scores, strict=True) if score == threshold):
            gained.append(best)
    return np.mean(np.array(gained)) if gained else 0.0
