"""Pages come from their seed alone; a resumed training repeats an unbroken one; the graph keeps its contract."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

import evaluate
import export
import measure
import pages
import train
from model import Denoiser, multiply_adds_per_pixel
from typefaces import faces

HERE = Path(__file__).resolve().parents[1]


@pytest.fixture
def settings() -> train.Settings:
    return tomllib.loads((HERE / "smoke.toml").read_text())


@pytest.fixture
def folder(tmp_path: Path, settings: train.Settings) -> Path:
    pages.make_shards(tmp_path / "pool", settings)
    return tmp_path


def test_a_page_depends_on_its_seed_only() -> None:
    first, other = pages.page(11, 128), pages.page(12, 128)
    again = pages.page(11, 128)
    assert np.array_equal(first.noisy, again.noisy) and np.array_equal(first.clean, again.clean)
    assert not np.array_equal(first.noisy, other.noisy)
    assert first.noisy.dtype == first.clean.dtype == np.uint8 and first.noisy.shape == (128, 128)


def test_one_page_in_25_is_clean_on_both_sides() -> None:
    pair = pages.page(50, 128)
    assert np.array_equal(pair.noisy, pair.clean)


def test_held_out_fonts_are_never_trained_with() -> None:
    shared = {f.path for f in faces(False)} & {f.path for f in faces(True)}
    few = len(faces(False)) <= 4 or len(faces(True)) <= 4  # a machine with next to no fonts falls back on all of them
    assert few or not shared


def test_resumed_training_repeats_the_losses_of_an_unbroken_one(folder: Path, settings: train.Settings) -> None:
    unbroken = train.run(folder, settings)
    (folder / "checkpoint.pt").unlink()
    first = train.run(folder, settings, stop_at=3)
    second = train.run(folder, settings)
    assert len(first) == len(second) == 3
    assert first + second == unbroken


def test_a_killed_training_goes_on_from_its_last_checkpoint(folder: Path, settings: train.Settings) -> None:
    unbroken = train.run(folder, settings)
    (folder / "checkpoint.pt").unlink()
    feed, trainer = train.Feed(folder / "pool", settings), train.Trainer(folder, settings)
    for step in range(3):
        trainer.advance(feed.batch(step))
    trainer.save()
    trainer.advance(feed.batch(3))  # lost with the process
    assert train.run(folder, settings) == unbroken[3:]


def test_the_untrained_network_is_the_classical_one() -> None:
    page = torch.full((1, 1, 64, 64), 0.6)
    page[..., 20:23, 8:50] = 0.1
    clean = Denoiser()(page)[0, 0]
    assert clean[40, 40] > 0.9 and clean[21, 30] < 0.1


def test_the_network_keeps_its_budget() -> None:
    shape = tomllib.loads((HERE / "train.toml").read_text())["model"]
    net = Denoiser(**shape)
    assert multiply_adds_per_pixel(net) <= 12_000
    assert sum(p.numel() for p in net.parameters()) * 4 <= 2_000_000


@pytest.mark.parametrize("size", [(32, 32), (96, 160)])
def test_the_exported_graph_keeps_the_contract(tmp_path: Path, size: tuple[int, int]) -> None:
    out = tmp_path / "net.onnx"
    export.write(Denoiser((8, 8, 8), 1), out)
    model = onnx.load(str(out), load_external_data=False)
    assert [o.version for o in model.opset_import if o.domain == ""] == [17]
    assert not any(t.HasField("data_location") and t.data_location for t in model.graph.initializer)
    session = ort.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    (page,), (clean,) = session.get_inputs(), session.get_outputs()
    assert (page.name, page.type, clean.name, clean.type) == ("page", "tensor(uint8)", "clean", "tensor(uint8)")
    got = session.run(None, {"page": np.full((1, 1, *size), 128, np.uint8)})[0]
    assert got.dtype == np.uint8 and got.shape == (1, 1, *size)


def test_a_training_can_begin_with_the_weights_of_a_shipped_graph(tmp_path: Path, settings: train.Settings) -> None:
    torch.manual_seed(1)
    net = Denoiser((8, 8, 8), 1)
    for weights in net.parameters():  # as after a training: layers that are all zero are kept once in the graph
        torch.nn.init.normal_(weights, std=0.05)
    export.write(net, tmp_path / "net.onnx")
    trainer = train.Trainer(tmp_path, settings)
    trainer.load(tmp_path / "net.onnx")
    assert all(torch.equal(value, trainer.mean.state_dict()[name]) for name, value in net.state_dict().items())


def test_a_training_can_begin_with_the_weights_of_an_older_graph() -> None:
    today = Denoiser((8, 8, 8), 1).state_dict()
    older = {name: weight for name, weight in today.items() if not name.startswith("up.")}
    older["head.weight"] = torch.randn(8, 14, 3, 3)
    for level in range(2):  # grown by transposed convolutions, inputs first
        older |= {f"up.{level}.weight": torch.randn(8, 8, 2, 2), f"up.{level}.bias": torch.randn(8)}
    fitted = train.fitted(older)
    assert {name: weight.shape for name, weight in fitted.items()} == {name: weight.shape for name, weight in today.items()}
    assert torch.equal(fitted["head.weight"][:, :14], older["head.weight"]) and not fitted["head.weight"][:, 14:].any()
    x = torch.randn(1, 8, 4, 4)
    grown = torch.nn.functional.conv_transpose2d(x, older["up.0.weight"], older["up.0.bias"], stride=2)
    mean = torch.nn.functional.conv2d(x, fitted["up.0.weight"], fitted["up.0.bias"])
    assert torch.allclose(torch.nn.functional.avg_pool2d(grown, 2), mean, atol=1e-5)


def test_estimates_beyond_black_and_white_are_errors_only_where_the_truth_is_between() -> None:
    truth = torch.tensor([1.0, 1.0, 0.0, 0.0, 0.5])[None, None, None]
    right = torch.tensor([1.2, 1.0, -0.3, 0.0, 0.5])[None, None, None]
    wrong = torch.tensor([1.0, 1.0, 1.2, 0.0, 0.5])[None, None, None].requires_grad_()
    assert train.loss_of(right, truth, 1.0, 0.25) == train.loss_of(truth.clone(), truth, 1.0, 0.25)
    train.loss_of(wrong, truth, 1.0, 0.25).backward()
    assert wrong.grad is not None and wrong.grad[..., 2] > 0  # saturated and wrong, yet it is pulled back


def test_cleaned_letters_are_counted_by_edits() -> None:
    assert evaluate.edits("kitten", "sitting") == 3
    assert evaluate.edits("", "abc") == 3 and evaluate.edits("abc", "") == 3 and evaluate.edits("né", "né") == 0


def test_padding_goes_up_to_the_next_multiple() -> None:
    assert measure.padded(np.zeros((33, 64), np.uint8)).shape == (64, 64)
