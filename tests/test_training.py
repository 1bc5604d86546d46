"""What `fit` learns, repeats and refuses."""

import math
from typing import Any, get_args

import pytest
import torch

from mnist_pipeline import training
from mnist_pipeline.config import Fast, Optimizer, TrainConfig
from mnist_pipeline.data import Splits
from mnist_pipeline.evaluation import evaluate, predict
from mnist_pipeline.model import MLP
from mnist_pipeline.training import Epoch, choose_device, choose_threads, fit, learning_rates, takes_bfloat16

XOR = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), torch.tensor([0, 1, 1, 0])


def train_on_xor(**options: object) -> tuple[MLP, list[Epoch]]:
    config = TrainConfig(**{"hidden": (8,), "lr": 0.05, "batch_size": 4, "epochs": 300} | options)  # type: ignore[arg-type]
    mlp = MLP.from_config(config, inputs=2, outputs=2)
    return mlp, list(fit(mlp, *XOR, config))


def test_an_mlp_learns_xor() -> None:
    mlp, epochs = train_on_xor()
    assert mlp(XOR[0]).argmax(dim=1).tolist() == [0, 1, 1, 0]
    assert epochs[-1].train_loss < 0.05


def test_a_single_layer_perceptron_cannot() -> None:
    mlp, epochs = train_on_xor(hidden=())
    assert mlp(XOR[0]).argmax(dim=1).tolist() != [0, 1, 1, 0]
    assert epochs[-1].train_loss == pytest.approx(math.log(2), abs=0.01)  # no better than guessing


@pytest.mark.parametrize("optimizer", get_args(Optimizer))
def test_every_optimizer_lowers_the_loss(optimizer: Optimizer) -> None:
    _, epochs = train_on_xor(optimizer=optimizer)
    assert epochs[-1].train_loss < epochs[0].train_loss


def test_the_same_seed_gives_the_same_weights_bit_for_bit(splits: Splits) -> None:
    def weights(seed: int) -> list[torch.Tensor]:
        config = TrainConfig(epochs=1, seed=seed, dropout=0.2, batch_norm=True)
        mlp = MLP.from_config(config, inputs=784, outputs=10)
        list(fit(mlp, splits.test.images, splits.test.labels, config))
        return list(mlp.state_dict().values())

    first, again, other = weights(1), weights(1), weights(2)
    assert all(map(torch.equal, first, again))
    assert not any(map(torch.equal, first[:1], other[:1]))
    assert all(values.is_contiguous() for values in first)  # which they are not while they train


@pytest.mark.skipif(
    not takes_bfloat16(TrainConfig(bfloat16=True), torch.device("cpu")),
    reason="the processor has no instructions for it",
)
@pytest.mark.parametrize("compiled", [False, True])
def test_bfloat16_learns_the_same_as_far_as_its_digits_go(splits: Splits, compiled: bool) -> None:
    def train(*, bfloat16: bool) -> tuple[MLP, float]:
        config = TrainConfig(epochs=1, batch_size=1000, batch_norm=True, bfloat16=bfloat16, compile=compiled)
        mlp = MLP.from_config(config, inputs=784, outputs=10)
        *_, last = fit(mlp, splits.test.images, splits.test.labels, config)
        return mlp, last.train_loss

    (exact, exact_loss), (rounded, rounded_loss) = train(bfloat16=False), train(bfloat16=True)
    assert rounded_loss == pytest.approx(exact_loss, rel=0.01)
    assert rounded_loss != exact_loss
    assert {weights.dtype for weights in rounded.parameters()} == {torch.float32}
    assert not all(map(torch.equal, exact.parameters(), rounded.parameters()))


def test_epochs_are_numbered_from_1_and_the_last_short_batch_is_dropped() -> None:
    _, epochs = train_on_xor(epochs=2, batch_size=3)
    assert [epoch.number for epoch in epochs] == [1, 2]
    assert all(epoch.train_loss == epoch.last_batch_loss for epoch in epochs)  # of one batch each


def test_the_fast_recipe_beats_the_tutorial(splits: Splits) -> None:
    mlp = MLP.from_config(Fast(), inputs=784, outputs=10)
    list(fit(mlp, splits.train.images, splits.train.labels, Fast()))
    assert evaluate(predict(mlp, splits.test.images), splits.test.labels).accuracy > 0.9744


def test_a_constant_rate_stays_and_one_cycle_goes_up_to_it_and_down_to_nothing() -> None:
    assert [*learning_rates(TrainConfig(epochs=2), 3)] == [0.001] * 6
    rates = [*learning_rates(TrainConfig(epochs=2, schedule="one-cycle"), 50)]
    highest = rates.index(max(rates))
    assert rates[highest] == pytest.approx(0.001, rel=0.01)
    assert rates == sorted(rates[: highest + 1]) + sorted(rates[highest + 1 :], reverse=True)
    assert rates[-1] < 1e-8


def test_a_small_step_takes_one_thread_and_a_large_one_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert choose_threads(MLP(784, [100, 100], 10), TrainConfig(batch_size=64)) == 1
    assert choose_threads(MLP(784, [512, 512], 10), TrainConfig(batch_size=256)) == 8


def test_within_an_epoch_torch_has_its_number_of_threads_and_no_denormals_and_then_as_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def settings() -> tuple[int, bool]:
        return torch.get_num_threads(), bool(torch.tensor(1e-38) / 10 == 0)

    before, within = settings(), []
    step = training.EagerStep.__call__

    def watched(self: training.EagerStep, *batch: Any) -> torch.Tensor:
        within.append(settings())
        return step(self, *batch)

    monkeypatch.setattr(training.EagerStep, "__call__", watched)
    train_on_xor(epochs=1, threads=3)
    assert within == [(3, torch.set_flush_denormal(False))]  # which says whether the processor can
    assert settings() == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA card")
def test_a_card_that_is_not_there_is_told() -> None:
    assert choose_device(TrainConfig()).type == "cpu"
    with pytest.raises(ValueError, match="--device cuda needs a CUDA card"):
        choose_device(TrainConfig(device="cuda"))


def test_a_loss_that_is_not_finite_stops_the_run() -> None:
    with pytest.raises(FloatingPointError, match=r"the loss became (nan|inf) in epoch \d+: lower --lr \(1e\+30\)"):
        train_on_xor(lr=1e30, optimizer="sgd")


def test_a_batch_larger_than_the_data_is_refused() -> None:
    with pytest.raises(ValueError, match="--batch-size must be at most the 4 training images, not 5"):
        train_on_xor(batch_size=5)
