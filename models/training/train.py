"""Trains the network; resumes from its own checkpoint.

    python train.py DIR [--settings train.toml] [--stop-at STEP] [--from MODEL.onnx]

DIR receives the pool of pages, checkpoint.pt, log.csv (step, loss, rate, seconds) and measures.csv. Run it again after
any kind of death: every step draws from a generator of its own, seeded by (seed, step), so a resumed run repeats the
losses of an unbroken one. --from begins with the weights of a shipped graph instead of chance.
"""

from __future__ import annotations

import argparse
import math
import os
import time
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from torch import Tensor

import measure
import pages
from model import SEEN, Denoiser
from muon import Optimizer

Settings = dict[str, Any]
TURNED = 0.25  # part of the patches turned by a chance number of quarters


def read_settings(path: Path) -> Settings:
    """The settings file, with the folder of NoisyOffice from the environment if it is given there."""
    settings = tomllib.loads(path.read_text())
    settings["office"]["folder"] = os.environ.get("NOISYOFFICE", settings["office"]["folder"])
    return settings


class Feed:
    """Batches of patches: of NoisyOffice split TR and of the pool of synthetic pages, which grows with the steps."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder, self.settings = folder, settings
        self.office = pages.office(Path(settings["office"]["folder"]), "TR")
        self.shards: list[np.ndarray] = []

    def _pool(self, step: int) -> list[np.ndarray]:
        """The shards that take part at a step; makes the ones that are missing."""
        s = self.settings["pages"]
        wanted = min(s["shards"], s["first_shards"] + step // s["steps_per_shard"])
        while len(self.shards) < wanted:
            path = pages.shard_path(self.folder, len(self.shards))
            if not path.exists():
                pages.make_shards(self.folder, self.settings, len(self.shards) + 1)
            self.shards.append(np.load(path, mmap_mode="r"))
        return self.shards[:wanted]

    def _page(self, rng: np.random.Generator, pool: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        noisy, clean = self._damaged(rng, pool)
        # Pages that are clean already must come out as they are.
        return (clean, clean) if rng.random() < self.settings["train"]["clean_share"] else (noisy, clean)

    def _damaged(self, rng: np.random.Generator, pool: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        if self.office and rng.random() < self.settings["office"]["share"]:
            pair = self.office[int(rng.integers(len(self.office)))]
            return pair.noisy, pair.clean
        shard = pool[int(rng.integers(len(pool)))]
        noisy, clean = shard[int(rng.integers(len(shard)))]
        return noisy, clean

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Damaged and clean patches of a step, float32 [N, 1, P, P] in 0..1; some are turned, some have other levels."""
        train = self.settings["train"]
        rng, pool = np.random.default_rng([train["seed"], step]), self._pool(step)
        count, side = train["batch"], train["patch_px"]
        x, y = np.empty((2, count, 1, side, side), np.float32)
        for i in range(count):
            noisy, clean = self._page(rng, pool)
            top, left = (int(rng.integers(0, n - side + 1)) for n in noisy.shape)
            # Never mirrored: that is how what shines through is known from what is written on this side.
            turn = int(rng.integers(4)) if rng.random() < TURNED else 0
            cut = np.s_[top : top + side, left : left + side]
            a, b = (np.rot90(p[cut], turn) / np.float32(255) for p in (noisy, clean))
            if rng.random() < 0.5 and not np.array_equal(a, b):
                a = np.clip((a - 0.5) * rng.uniform(0.8, 1.15) + 0.5 + rng.uniform(-0.1, 0.08), 0, 1)
                a = a ** rng.uniform(0.8, 1.3)
            x[i, 0], y[i, 0] = a, b
        return torch.from_numpy(x), torch.from_numpy(y)


def loss_of(raw: Tensor, truth: Tensor, progress: float, square_weight: float) -> Tensor:
    """Loss of unclamped estimates [N, 1, P, P].

    The root of the mean square is taken per patch: a plain mean of squares is ruled by the few hopeless patches, and with a
    weight of 0.75 in place of 0.25 the strokes of large type on clean pages came out hollow. Estimates
    beyond black and white are right where the truth is black or white, and in full error elsewhere: to clamp them would
    hide the gradient of pixels that are saturated and wrong, such as the inside of large type.
    """
    error = raw - truth
    error = torch.where(truth >= 1, error.clamp(max=0), error)
    error = torch.where(truth <= 0, error.clamp(min=0), error)
    square = (error**2).mean((1, 2, 3))
    return 0.25 * (square + 1e-4).sqrt().mean() + square_weight * square.mean() + 0.01 * (1 - progress) * error.abs().mean()


def rate_at(step: int, train: Settings) -> float:
    """Learning rate: a linear rise, a plateau, then half a cosine down to nearly nothing."""
    left = (train["steps"] - step) / max(1, train["cooldown_steps"])
    fall = 1.0 if left >= 1 else 0.5 * (1 - math.cos(math.pi * max(0.0, left))) + 0.002
    return train["rate"] * min(1.0, (step + 1) / train["warmup_steps"]) * fall


def fitted(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of an older graph in today's shape: up to version 5 a network saw 14 channels, and grew by transposed
    convolutions of 2 x 2. What it did not see has no weight yet; blocks it lacks begin as the identity."""
    now = dict(weights)
    if weights["head.weight"].shape[1] < SEEN:
        now["head.weight"] = F.pad(weights["head.weight"], (0, 0, 0, 0, 0, SEEN - weights["head.weight"].shape[1]))
        for name in [name for name in weights if name.startswith("up.") and weights[name].ndim == 4]:
            now[name] = weights[name].mean((2, 3)).T[:, :, None, None].contiguous()
    return now


class Trainer:
    """The network, its running mean, the optimiser and the step; all of it goes into a checkpoint."""

    def __init__(self, folder: Path, settings: Settings, build: type[Denoiser] = Denoiser) -> None:
        self.folder, self.settings, self.train = folder, settings, settings["train"]
        torch.manual_seed(self.train["seed"])
        torch.set_num_threads(self.train["threads"])
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.net, self.mean = (build(**settings["model"]).to(self.device) for _ in range(2))
        self.mean.load_state_dict(self.net.state_dict())
        self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        # Fused by the compiler, a step is shorter on some machines; it takes a minute to compile.
        self.raw = torch.compile(self.net.raw) if self.train["compile"] else self.net.raw
        self.optimizer = Optimizer(self.net, self.train["rate"], self.train["weight_decay"])
        # Processors without AVX-512 compute with bfloat16 several times slower than with float32.
        self.is_short = self.device.type != "cpu" or torch.backends.cpu.get_cpu_capability().startswith("AVX512")
        self.step = 0

    def load(self, begin: Path | None = None) -> None:
        """Goes on from the checkpoint, if there is one; otherwise it begins with the weights of the graph `begin`, if given."""
        path = self.folder / "checkpoint.pt"
        if begin and not path.exists():
            held = {i.name: onnx.numpy_helper.to_array(i) for i in onnx.load(str(begin)).graph.initializer}
            weights = {name.removeprefix("net."): torch.from_numpy(array.copy()) for name, array in held.items()}
            for net in (self.net, self.mean):
                missing = net.load_state_dict(fitted(weights), strict=False).missing_keys
                assert all(name.startswith("refine.") for name in missing), missing
        if path.exists():
            state = torch.load(path, map_location=self.device, weights_only=True)
            self.net.load_state_dict(state["net"])
            self.mean.load_state_dict(state["mean"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step = state["step"]

    def save(self) -> None:
        """Writes the checkpoint in one go: a kill leaves the old or the new one."""
        draft = self.folder / "checkpoint.tmp"
        state = {"net": self.net.state_dict(), "mean": self.mean.state_dict(), "step": self.step}
        torch.save({**state, "optimizer": self.optimizer.state_dict(), "model": self.settings["model"]}, draft)
        draft.rename(self.folder / "checkpoint.pt")

    def advance(self, batch: tuple[Tensor, Tensor]) -> float:
        """One step of the optimiser; returns the loss."""
        x, y = (t.to(self.device) for t in batch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate_at(self.step, self.train)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.is_short):
            raw = self.raw(x.contiguous(memory_format=torch.channels_last))
        loss = loss_of(raw.float(), y, self.step / self.train["steps"], self.train["square_weight"])
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizer.step()
        keep = min(self.train["average"], (self.step + 1) / (self.step + 20))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.mean.parameters()), list(self.net.parameters()), 1 - keep)
        self.step += 1
        return loss.item()


def run(folder: Path, settings: Settings, stop_at: int | None = None, begin: Path | None = None) -> list[float]:
    """Trains up to `stop_at` or the end; returns the losses of the steps done."""
    trainer, feed = Trainer(folder, settings), Feed(folder / "pool", settings)
    trainer.load(begin)
    train, losses, start = settings["train"], [], time.monotonic()
    end = min(train["steps"], stop_at or train["steps"])
    with open(folder / "log.csv", "a", buffering=1) as log, open(folder / "measures.csv", "a", buffering=1) as measures:
        while trainer.step < end:
            losses.append(trainer.advance(feed.batch(trainer.step)))
            done = trainer.step
            if done % 50 == 0 or done == end:
                seconds = time.monotonic() - start
                log.write(f"{done},{np.mean(losses[-50:]):.5f},{rate_at(done, train):.2e},{seconds:.0f}\n")
            if done % train["save_every_steps"] == 0 or done == end:
                trainer.save()
            if done % train["measure_every_steps"] == 0 or done == end:
                figures = measure.quick(trainer.mean, settings)
                measures.write(f"{done},{','.join(f'{k}={v:.4f}' for k, v in figures.items())}\n")
    return losses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    here = Path(__file__).resolve().parent
    parser.add_argument("--settings", type=Path, default=here / "train.toml")
    parser.add_argument("--stop-at", type=int)
    parser.add_argument("--from", dest="begin", type=Path, metavar="MODEL.onnx")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    run(args.folder, read_settings(args.settings), args.stop_at, args.begin)


if __name__ == "__main__":
    main()
