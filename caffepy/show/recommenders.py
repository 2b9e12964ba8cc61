"""Recommenders in a picture: how long each trains, how good it is then."""

from __future__ import annotations

from collections.abc import Mapping

from caffepy.recommend.trial import Figures
from caffepy.show.pictures import pyplot


def plot(found: Mapping[str, Figures], path: str) -> None:
    """Seconds to train against RMSE, a point a model. Needs matplotlib."""
    plt = pyplot("--plot")
    figure, axes = plt.subplots(figsize=(7, 5))
    for name, figures in found.items():
        if "rmse" in figures:
            axes.plot(figures["train"], figures["rmse"], "o")
            axes.annotate(name, (figures["train"], figures["rmse"]), xytext=(4, 4), textcoords="offset points")
    axes.set(xscale="log", xlabel="seconds to train", ylabel="RMSE")
    figure.savefig(path, bbox_inches="tight")
    plt.close(figure)
