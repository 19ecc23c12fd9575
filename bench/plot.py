"""Draws what `make bench` measured: models.json in a folder becomes models.png beside it."""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (the backend comes first)


def main():
    folder = Path(sys.argv[1])
    report = json.loads((folder / "models.json").read_text())
    models = report["models"]
    ways = list(models[0]["ms"])
    figure, axes = plt.subplots(figsize=(1.6 * len(models) + 2, 4), layout="constrained")
    width = 0.8 / len(ways)
    for i, way in enumerate(ways):
        speedups = [model["ms"]["eager"] / model["ms"][way] for model in models]
        places = [j + (i - (len(ways) - 1) / 2) * width for j in range(len(models))]
        bars = axes.bar(places, speedups, width, label=way)
        labels = [f"{model['ms'][way]:.3g}" for model in models]
        axes.bar_label(bars, labels, fontsize=8)
    axes.set_xticks(range(len(models)), [model["model"] for model in models])
    axes.set_ylabel("speed-up over eager (labels: ms)")
    axes.set_title(f"Batch 1, fp32 on {report['machine']}", fontsize=9)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    path = folder / "models.png"
    figure.savefig(path, dpi=150)
    print(f"plot: {path}")


if __name__ == "__main__":
    main()
