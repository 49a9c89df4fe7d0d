"""The plain loop: the order of rows, resuming, sharing a batch, and refusing what cannot work."""

import types
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.columns import Columns
from models.errors import Interrupted, UserError
from models.tasks import TrainConfig
from models.training.checkpoint import Checkpoint, load_weights, save_checkpoint
from models.training.loop import Hooks, Result, batch_rows, learning_rate, train, visit_seeds


class Numbers:
    """Rows (x, y) with y = 3 x_0 - x_1 + 0.5, for a task small enough to check by hand."""

    def __init__(self, count: int = 70):
        self.x = np.random.default_rng(0).standard_normal((count, 2)).astype(np.float32)

    def __len__(self) -> int:
        return len(self.x)

    def rows(self, indices: np.ndarray) -> Columns:
        x = self.x[indices]
        return {"x": x, "y": 3 * x[:, 0] - x[:, 1] + 0.5}


def noisy_loss(model: nn.Module, batch: Columns, config: TrainConfig, step: int) -> tuple[Tensor, dict[str, float]]:
    noise = np.stack([np.random.default_rng(int(seed)).standard_normal(2) for seed in batch["draw"]])
    found = model(torch.from_numpy(batch["x"] + 0.01 * noise.astype(np.float32)))[:, 0]
    loss = ((found - torch.from_numpy(batch["y"])) ** 2).mean()
    return loss, {"mse": loss.item()}


def validate(model: nn.Module, rows: Iterable[Columns], config: TrainConfig) -> dict[str, float]:
    errors = [model(torch.from_numpy(part["x"]))[:, 0] - torch.from_numpy(part["y"]) for part in rows]
    return {"score": -float(torch.cat(errors).abs().mean())}


def build(config: TrainConfig) -> nn.Module:
    """A convolution is in it because it lies in memory otherwise than it is saved."""
    return nn.Sequential(
        nn.Linear(2, 32),
        nn.Unflatten(1, (2, 4, 4)),
        nn.Conv2d(2, 4, 3),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(16, 1),
    )


LINEAR = types.SimpleNamespace(
    Config=TrainConfig, COLUMNS=(), build=build, loss=noisy_loss, validate=validate, __name__="linear"
)


def run(
    folder: Path, config: TrainConfig, *, resume: Path | None = None, stop_at: int = 0
) -> tuple[Result, list[dict[str, float]]]:
    records: list[dict[str, float]] = []
    calls = iter(range(1, 10**6))
    hooks = Hooks(folder, lambda *_: None, records.append, stop=lambda: next(calls) == stop_at, log_every=5)
    return train(LINEAR, config, Numbers(), Numbers(20), hooks, resume=resume), records  # type: ignore[arg-type]


CONFIG = TrainConfig(steps=60, batch=16, lr=0.03, warmup=5, ema=0.9, validate_every=30)


def test_epochs_are_permutations_end_to_end() -> None:
    seen = [batch_rows(10, 4, step, seed=1) for step in range(5)]
    rows, epochs = np.concatenate([r for r, _ in seen]), np.concatenate([e for _, e in seen])
    assert sorted(rows[epochs == 0]) == sorted(rows[epochs == 1]) == list(range(10))
    assert list(rows[:10]) != list(rows[10:])
    assert list(batch_rows(10, 4, 3, seed=1)[0]) == list(rows[12:16])


def test_a_draw_belongs_to_the_visit() -> None:
    first = visit_seeds(0, np.array([0, 0, 1]), np.array([5, 6, 5]))
    assert len(set(first.tolist())) == 3
    assert visit_seeds(0, np.array([1]), np.array([5]))[0] == first[2]


def test_the_rate_warms_up_and_ends_low() -> None:
    config = TrainConfig(steps=100, warmup=10, lr=1.0, final_lr=0.1)
    rates = [learning_rate(config, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[10] == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(0.1, abs=1e-3)


def test_it_learns_and_logs(tmp_path: Path) -> None:
    result, records = run(tmp_path, CONFIG)
    assert result.step == 60
    assert result.metrics["score"] > -1.0
    losses = [record["loss"] for record in records if "loss" in record]
    assert losses[-1] < 0.3 * losses[0]
    assert [record["step"] for record in records if "validation/score" in record] == [30, 60]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """What a run of `CONFIG` that nothing stopped comes to."""
    return run(tmp_path_factory.mktemp("whole"), CONFIG)[0]


@pytest.mark.parametrize("stop_at", [1, 23])
def test_a_resumed_run_ends_with_the_same_bytes(whole: Result, tmp_path: Path, stop_at: int) -> None:
    with pytest.raises(Interrupted, match=f"step {stop_at} of 60"):
        run(tmp_path / "b", CONFIG, stop_at=stop_at)
    resumed, _ = run(tmp_path / "b", CONFIG, resume=tmp_path / "b" / f"step-{stop_at:07d}")
    for one, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_first_save_brings_a_picture_and_no_later_one(tmp_path: Path) -> None:
    shown: list[int] = []
    task = types.SimpleNamespace(**vars(LINEAR), pictures=lambda *_: np.zeros((1, 1, 3), np.uint8))
    hooks = Hooks(tmp_path, lambda *_: None, lambda _: None, lambda step, _: shown.append(step), checkpoint_seconds=0)
    config = CONFIG.model_copy(update={"validate_every": 0})
    train(task, config, Numbers(), Numbers(20), hooks)  # type: ignore[arg-type]
    assert shown == [1, 60]


def _train_until_stopped(rank: int, folder: Path) -> None:
    """One of two workers, of which the second alone is asked to stop; it leaves the step it stopped at."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    hooks = Hooks(folder, lambda *_: None, lambda _: None, stop=lambda: rank == 1)
    with pytest.raises(Interrupted) as stop:
        train(LINEAR, CONFIG, Numbers(), None, hooks)  # type: ignore[arg-type]
    (folder / f"{rank}").write_text(str(stop.value))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_workers_stop_at_the_same_step(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_train_until_stopped, (tmp_path,), nprocs=2)
    assert all((tmp_path / name).read_text().startswith("stopped at step 4 of 60") for name in "01")
    assert (tmp_path / "step-0000004").is_dir()


def test_another_config_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        run(tmp_path, CONFIG, stop_at=2)
    with pytest.raises(UserError, match="lr"):
        run(tmp_path, CONFIG.model_copy(update={"lr": 0.1}), resume=tmp_path / "step-0000002")


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="safetensors"):
        run(tmp_path, CONFIG.model_copy(update={"init": str(tmp_path / "x.safetensors")}))


def test_a_checkpoint_begins_another_run_by_its_folder(tmp_path: Path) -> None:
    """Of a network with batch statistics, which are in no average."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4))
    model(torch.randn(16, 2))
    folder = save_checkpoint(tmp_path, Checkpoint(model, torch.optim.AdamW(model.parameters())), CONFIG)
    with pytest.raises(UserError, match=f"name the folder, {folder}"):
        load_weights(model, folder / "average.safetensors")
    fresh = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4))
    load_weights(fresh, folder)
    assert all(
        torch.equal(*pair) for pair in zip(fresh.state_dict().values(), model.state_dict().values(), strict=True)
    )


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gradient is (nan|inf) at step"):
        run(tmp_path, CONFIG.model_copy(update={"lr": 1e20, "clip": 0.0}))


def test_the_average_is_swapped_in_and_out() -> None:
    model = nn.Linear(2, 1)
    state = Checkpoint(model, torch.optim.AdamW(model.parameters()))
    before = model.weight.detach().clone()
    with torch.no_grad():
        model.weight += 1
    with state.average_in_use():
        assert torch.equal(model.weight, before)
    assert torch.equal(model.weight, before + 1)
