"""The tutorial's comparisons, as a page: one layer against three, SGD against its relatives and Adam, and XOR.

.venv/bin/python examples/comparisons.py        writes docs/comparisons.md and its figures; takes about a minute
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import cyclopts
import torch
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from mnist_pipeline import data
from mnist_pipeline.config import ROOT, DataSource, Optimizer, TrainConfig
from mnist_pipeline.evaluation import evaluate, predict
from mnist_pipeline.model import MLP
from mnist_pipeline.training import fit

RATES: dict[Optimizer, float] = {  # what each is commonly started with
    "sgd": 0.1,
    "momentum": 0.01,
    "nesterov": 0.01,
    "adagrad": 0.01,
    "rmsprop": 0.001,
    "adam": 0.001,
    "adamw": 0.001,
}
LAYOUT = ConstrainedLayoutEngine(h_pad=0.1)
XOR = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), torch.tensor([0, 1, 1, 0])

PAGE = """\
# Comparisons

Made by `.venv/bin/python examples/comparisons.py`: {epochs} epochs of the reference recipe each, seed 0, with nothing
changed but what the table says.

| network | optimizer | learning rate | training loss | test accuracy |
| --- | --- | --- | --- | --- |
{rows}

![Training loss over the epochs, by network and by optimizer](comparisons-loss.png)

## XOR

The smallest problem that no single layer can solve: whatever line it draws, one of four points lies on the wrong side,
and its loss stays at that of guessing, log 2 = 0.693. One hidden layer of eight units bends the line.

![What each network makes of the unit square](comparisons-xor.png)
"""


def main(
    *, epochs: int = 10, out: Annotated[Path, cyclopts.Parameter(help="Folder to write into.")] = ROOT / "docs"
) -> None:
    """Train each network on MNIST and on XOR, and write the page that compares them."""
    splits = data.split(*data.load("mnist", data.download(DataSource())))

    def train(config: TrainConfig) -> tuple[list[float], float]:
        mlp = MLP.from_config(config, inputs=784, outputs=10)
        losses = [epoch.train_loss for epoch in fit(mlp, splits.train.images, splits.train.labels, config)]
        accuracy = evaluate(predict(mlp, splits.test.images), splits.test.labels).accuracy
        print(f"{config}, {config.optimizer}: loss {losses[-1]:.3f}, test accuracy {accuracy:.2%}")
        return losses, accuracy

    single = TrainConfig(epochs=epochs, hidden=())
    configs = [single, *(TrainConfig(epochs=epochs, optimizer=name, lr=rate) for name, rate in RATES.items())]
    results = {config: train(config) for config in configs}
    rows = [
        f"| {'-'.join(map(str, (784, *config.hidden, 10)))} | {config.optimizer} | {config.lr} "
        f"| {losses[-1]:.3f} | {accuracy:.2%} |"
        for config, (losses, accuracy) in results.items()
    ]
    reference = TrainConfig(epochs=epochs)
    layers = {"one layer: 784-10": results[single][0], "three: 784-100-100-10": results[reference][0]}
    optimizers: dict[str, list[float]] = {
        config.optimizer: losses for config, (losses, _) in results.items() if config.hidden
    }
    out.mkdir(parents=True, exist_ok=True)
    loss_curves(layers, optimizers).savefig(out / "comparisons-loss.png", dpi=80)
    xor_surfaces().savefig(out / "comparisons-xor.png", dpi=80)
    (out / "comparisons.md").write_text(PAGE.format(epochs=epochs, rows="\n".join(rows)))


def loss_curves(layers: Mapping[str, Sequence[float]], optimizers: Mapping[str, Sequence[float]]) -> Figure:
    """Draw the training losses of the networks, and of the optimizers, side by side on one scale."""
    figure = Figure(figsize=(12, 5), layout=LAYOUT)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, title, curves in zip(panels, ("Networks", "Optimizers"), (layers, optimizers), strict=True):
        for name, losses in curves.items():
            axes.plot(range(1, len(losses) + 1), losses, label=name, linewidth=1.5)
        axes.set(title=title, xlabel="Epoch", yscale="log")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    panels[0].set_ylabel("Training loss")
    return figure


def xor_surfaces() -> Figure:
    """Draw how sure a network of one layer, and one of two, are of class 1 over the unit square, after learning XOR."""
    side = torch.linspace(-0.25, 1.25, 200)
    square = torch.cartesian_prod(side, side)  # (40000, 2): x, y
    figure = Figure(figsize=(11, 5), layout=LAYOUT)
    panels = figure.subplots(1, 2)
    for axes, hidden in zip(panels, ((), (8,)), strict=True):
        config = TrainConfig(hidden=hidden, lr=0.05, batch_size=4, epochs=300)
        mlp = MLP.from_config(config, inputs=2, outputs=2)
        *_, last = fit(mlp, *XOR, config)
        sure = predict(mlp, square)[:, 1].view(200, 200).T  # rows are y
        image = axes.imshow(
            sure, cmap="RdBu", vmin=0, vmax=1, origin="lower", extent=(-0.25, 1.25, -0.25, 1.25), alpha=0.8
        )
        points = axes.scatter(*XOR[0].T, c=XOR[1], cmap="RdBu", s=120, edgecolors="black", zorder=2)
        points.set_clim(0, 1)
        sizes = "-".join(map(str, mlp.sizes))
        axes.set(title=f"{sizes}: loss {last.train_loss:.3f}", xlabel="x", ylabel="y", xticks=(0, 1), yticks=(0, 1))
    figure.colorbar(image, ax=panels, label="Probability of class 1", ticks=(0, 0.5, 1))
    return figure


if __name__ == "__main__":
    cyclopts.run(main)
