"""What `fit` learns, repeats and refuses."""

import math
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch

from mnist_pipeline.config import FAST, RECIPES, ClassWeights, FieldError, OptimizerName, TrainConfig
from mnist_pipeline.data.splits import Splits
from mnist_pipeline.training.evaluation import Score, evaluate, predict, score
from mnist_pipeline.training.loop import (
    Epoch,
    adapt_batch_size,
    balanced_weights,
    best_epoch,
    choose_device,
    choose_threads,
    fit,
    is_exhausted,
    learning_rates,
    torch_threads,
)
from mnist_pipeline.training.model import MLP

XOR = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), torch.tensor([0, 1, 1, 0])


def train_on_xor(**fields: Any) -> tuple[MLP, list[Epoch]]:
    defaults: dict[str, Any] = {"hidden": (8,), "lr": 0.05, "batch_size": 4, "epochs": 300}
    config = TrainConfig(**defaults | fields)
    mlp = MLP.from_config(config, inputs=2, outputs=2)
    return mlp, list(fit(mlp, *XOR, config))


def test_an_mlp_learns_xor() -> None:
    mlp, epochs = train_on_xor()
    assert mlp(XOR[0]).argmax(dim=1).tolist() == [0, 1, 1, 0]
    assert epochs[-1].train_loss < 0.05


def test_a_single_layer_perceptron_cannot_learn_xor() -> None:
    mlp, epochs = train_on_xor(hidden=())
    assert mlp(XOR[0]).argmax(dim=1).tolist() != [0, 1, 1, 0]
    assert epochs[-1].train_loss == pytest.approx(math.log(2), abs=0.01)  # no better than guessing


@pytest.mark.parametrize("optimizer", get_args(OptimizerName))
def test_every_optimizer_lowers_the_loss(optimizer: OptimizerName) -> None:
    _, epochs = train_on_xor(optimizer=optimizer, epochs=30)
    assert epochs[-1].train_loss < epochs[0].train_loss


def test_the_same_seed_gives_the_same_weights_bit_for_bit(splits: Splits) -> None:
    def weights(seed: int) -> list[torch.Tensor]:
        config = TrainConfig(epochs=1, seed=seed, dropout=0.2, batch_norm=True, augmentation=0.5)
        mlp = MLP.from_config(config, inputs=784, outputs=10)
        list(fit(mlp, splits.test.images[:1000], splits.test.labels[:1000], config))
        return list(mlp.state_dict().values())

    first, again, other = weights(1), weights(1), weights(2)
    assert all(map(torch.equal, first, again))
    assert not torch.equal(first[0], other[0])


def test_epochs_are_numbered_from_1_and_report_their_mean_and_their_last_loss() -> None:
    _, epochs = train_on_xor(epochs=2, batch_size=1, lr=1e-9, hidden=())
    assert [epoch.number for epoch in epochs] == [1, 2]
    assert epochs[0].train_loss == pytest.approx(epochs[1].train_loss)  # of the same four images
    assert {epoch.last_batch_loss for epoch in epochs}.isdisjoint({epoch.train_loss for epoch in epochs})


def test_the_last_short_batch_is_dropped() -> None:
    _, epochs = train_on_xor(epochs=2, batch_size=3)
    assert all(epoch.train_loss == epoch.last_batch_loss for epoch in epochs)  # of one batch each


def test_scoring_each_epoch_changes_no_weight(splits: Splits) -> None:
    images, labels = splits.test.images[:1000], splits.test.labels[:1000]
    config = TrainConfig(epochs=2, dropout=0.2, batch_norm=True, augmentation=0.5)
    mlps = [MLP.from_config(config, inputs=784, outputs=10) for _ in range(2)]
    for mlp, scored in zip(mlps, (None, (images, labels)), strict=True):
        torch.manual_seed(0)
        epochs = list(fit(mlp, images, labels, config, val=scored, test=scored))
    assert all(map(torch.equal, mlps[0].state_dict().values(), mlps[1].state_dict().values()))
    assert epochs[-1].val == epochs[-1].test == score(mlps[1], images, labels)


def test_with_patience_the_best_epochs_weights_are_kept() -> None:
    config = TrainConfig(epochs=100, batch_size=4, lr=0.05, hidden=(8,), validation=0.5, patience=4, batch_norm=True)
    val, snapshots = (XOR[0], torch.tensor([0, 1, 1, 1])), []
    mlp = MLP.from_config(config, inputs=2, outputs=2)
    epochs = []
    for epoch in fit(mlp, *XOR, config, val=val):
        epochs.append(epoch)
        snapshots.append({name: value.clone() for name, value in mlp.state_dict().items()})
    best = best_epoch(epochs)
    assert len(epochs) == best + 4 < 100
    assert all(map(torch.equal, mlp.state_dict().values(), snapshots[best - 1].values()))
    assert score(mlp, *val) == epochs[best - 1].val


def test_the_best_epoch_is_the_first_with_the_lowest_validation_loss() -> None:
    epochs = [
        Epoch(number, 0.0, 0.0, val=Score(loss, 0.5)) for number, loss in enumerate((3.0, 1.0, 2.0, 1.0), start=1)
    ]
    assert best_epoch(epochs) == 2
    configs = [TrainConfig(validation=0.1, patience=patience) for patience in (0, 1, 2, 3)]
    assert [is_exhausted(epochs, config) for config in configs] == [False, True, True, False]
    assert not any(is_exhausted(epochs, replace(config, schedule="one-cycle")) for config in configs)
    assert not any(is_exhausted([], config) for config in configs)


def test_balanced_weights_give_a_rare_class_its_say() -> None:
    labels = torch.tensor([0] * 90 + [1] * 10)
    assert balanced_weights(labels, 3)[:2].tolist() == pytest.approx([100 / 180, 100 / 20])
    images = torch.ones(100, 1)  # which say nothing: the answer is the share of a class in the loss
    cases: dict[ClassWeights, float] = {"none": 0.1, "balanced": 0.5}
    for weights, expected in cases.items():
        config = TrainConfig(epochs=300, lr=0.05, hidden=(), batch_size=100, class_weights=weights)
        mlp = MLP.from_config(config, inputs=1, outputs=2)
        list(fit(mlp, images, labels, config))
        assert predict(mlp, images[:1])[0, 1].item() == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(
    ("images", "batch_size"), [(48_000, 256), (5120, 256), (5119, 128), (407, 16), (200, 8), (30, 8), (5, 5)]
)
def test_a_recipes_batch_size_shrinks_until_small_data_give_20_steps_an_epoch(images: int, batch_size: int) -> None:
    assert adapt_batch_size(FAST, images=images) == replace(FAST, batch_size=batch_size)
    given = replace(FAST, batch_size=255)
    assert adapt_batch_size(given, images=images) == given


@pytest.mark.parametrize("recipe", RECIPES.values())
def test_every_recipe_keeps_its_batch_size_on_mnist(recipe: TrainConfig) -> None:
    assert adapt_batch_size(recipe, images=48_000) == recipe


def test_a_single_image_to_train_on_is_too_few_for_batch_norm() -> None:
    with pytest.raises(FieldError, match="dataset leaves 1 image to train on, and batch norm needs 2: add some"):
        adapt_batch_size(FAST, images=1)


def test_the_fast_recipe_beats_the_tutorial(splits: Splits) -> None:
    mlp = MLP.from_config(FAST, inputs=784, outputs=10)
    list(fit(mlp, splits.train.images, splits.train.labels, FAST))
    assert evaluate(predict(mlp, splits.test.images), splits.test.labels).accuracy > 0.9744


def test_a_constant_learning_rate_stays_the_same() -> None:
    assert learning_rates(TrainConfig(lr=0.002), 6) == [0.002] * 6


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 561])
def test_one_cycle_has_the_learning_rates_of_torchs_scheduler(steps: int) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)])
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.01, total_steps=steps)
    expected = []
    for step in range(steps):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step < steps - 1:
            scheduler.step()
    rates = learning_rates(TrainConfig(lr=0.01, schedule="one-cycle"), steps)
    assert rates == pytest.approx(expected, rel=1e-9)


def test_a_small_step_uses_one_thread_and_a_large_one_uses_all() -> None:
    with torch_threads(8):
        assert choose_threads(MLP(784, [100, 100], 10), TrainConfig(batch_size=64)) == 1
        assert choose_threads(MLP(784, [512, 512], 10), TrainConfig(batch_size=256)) == 8


def test_threads_and_denormals_are_set_within_an_epoch_and_restored_after_it() -> None:
    def settings() -> tuple[int, bool]:
        return torch.get_num_threads(), bool(torch.tensor(1e-38) / 10 == 0)

    before, within = settings(), []
    config = TrainConfig(epochs=1, batch_size=4, threads=3)
    mlp = MLP.from_config(config, inputs=2, outputs=2)
    mlp.register_forward_hook(lambda *_: within.append(settings()))
    can_flush = torch.set_flush_denormal(False)
    list(fit(mlp, *XOR, config))
    assert within == [(3, can_flush)]
    assert settings() == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA card")
def test_a_missing_cuda_card_is_reported_with_the_remedy() -> None:
    assert choose_device(TrainConfig()).type == "cpu"
    with pytest.raises(FieldError, match="device cuda needs a CUDA card, and torch sees none: use cpu"):
        choose_device(TrainConfig(device="cuda"))


def test_a_loss_that_is_not_finite_stops_the_training() -> None:
    with pytest.raises(FloatingPointError, match=r"the loss became (nan|inf) in epoch \d+: lower .* which is 1e\+30"):
        train_on_xor(lr=1e30, optimizer="sgd")


def test_a_batch_larger_than_the_training_set_is_refused() -> None:
    with pytest.raises(FieldError, match="batch_size must be at most the 4 training images, not 5"):
        train_on_xor(batch_size=5)
