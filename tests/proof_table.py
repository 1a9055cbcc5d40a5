"""The table of narrow_proof.py: means, and differences paired by seed with their standard error."""

from collections.abc import Sequence

import numpy as np

DEAD = 0.5  # test mIoU: below it a network says the same of all pixels, or as good as


def print_table(rows: Sequence[dict], against: str = "narrow") -> None:
    """Prints a table for each budget and length of training on.

    Args:
        rows: As narrow_proof.py writes them.
        against: The rival whose scores the others' are subtracted from.
    """
    for budget, epochs in dict.fromkeys((row["budget"], row["trained_on"]) for row in rows):
        group = [row for row in rows if (row["budget"], row["trained_on"]) == (budget, epochs)]
        ours = {
            (row["parent"], row["seed"]): float(row["test"])
            for row in group
            if row["rival"] == against
        }
        print(
            f"\n{int(budget):,} multiply-adds, fine-tuned for {epochs} epochs; test mIoU; "
            f"difference of '{against}' to each rival"
        )
        print("| rival | epochs | pairs | cut | trained | dead | difference | CPU s |")
        print("|---|---|---|---|---|---|---|---|")
        for rival in dict.fromkeys(row["rival"] for row in group):
            print(_line(rival, [row for row in group if row["rival"] == rival], ours))


def _line(rival: str, rows: Sequence[dict], ours: dict) -> str:
    test = np.array([float(row["test"]) for row in rows])
    cut = np.array([float(row["cut_test"]) for row in rows])
    pairs = [(row["parent"], row["seed"]) for row in rows]
    differences = [ours[p] - t for p, t in zip(pairs, test, strict=True) if p in ours]
    seconds = np.mean([float(r["training_seconds"]) + float(r["cutting_seconds"]) for r in rows])
    epochs = np.mean([int(row["epochs"]) for row in rows])
    return (
        f"| {rival} | {epochs:.0f} | {len(differences)} | {cut.mean():.4f} | {test.mean():.4f} | "
        f"{int((test < DEAD).sum())} | {difference(differences)} | {seconds:.0f} |"
    )


def difference(values: Sequence[float]) -> str:
    """Returns a mean difference with its standard error, in points.

    Example:
        >>> difference([0.01, 0.03])
        '+2.00 ± 1.00'
    """
    if len(values) < 2:
        return "-"
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    return f"{100 * np.mean(values):+.2f} ± {100 * error:.2f}"
