"""What each idea in the network gives, at equal steps: every one is trained alike from the same seeds, and measured.

    python ideas.py DIR [--settings train.toml] [--steps 1500] [NAME...]

Short trainings tell which idea learns faster, not which is best in the end. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import measure
import model
from model import Denoiser, enlarged
from train import Feed, Trainer, read_settings


class Plain(Denoiser):
    """No classical estimate: the page alone, and a correction of it, as the prototype has it."""

    def raw(self, page: Tensor) -> Tensor:
        empty = torch.ones_like(page)
        beside = page.new_ones(page.shape[0], 4, page.shape[2] // 2, page.shape[3] // 2)
        out = self.body(self.seen(torch.cat([page, empty, empty], 1), beside))
        return page + F.pixel_shuffle(out, 2)[:, :1]


class Unstretched(Denoiser):
    """No stretched pages among what it sees."""

    def fields(self, page: Tensor, wide: Tensor, narrow: Tensor) -> Tensor:
        return torch.cat([wide, narrow, torch.ones_like(wide), torch.ones_like(wide)], 1)


class OnePaper(Denoiser):
    """One estimate of the paper, the narrow one, in place of two."""

    def papers(self, page: Tensor) -> tuple[Tensor, Tensor]:
        _, narrow = super().papers(page)
        return narrow, narrow


class Relu(Denoiser):
    """ReLU in place of the leaky one, and blocks that begin as the layers' usual noise."""

    def __init__(self, **shape: Any) -> None:
        super().__init__(**shape)
        for block in self.modules():
            if isinstance(block, model.Block):
                block.second.reset_parameters()
                block.leak = 0.0


class GatedBlock(model.Block):
    """Half of the first convolution's channels gate the other half; the second takes what is left twice."""

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.first(x).chunk(2, 1)
        return x + self.second(torch.cat([value, value * torch.sigmoid(gate)], 1))


class Gated(Denoiser):
    """Gates in place of the leaky ReLU."""

    def __init__(self, **shape: Any) -> None:
        super().__init__(**shape)
        for block in self.modules():
            if isinstance(block, model.Block):
                block.__class__ = GatedBlock


class HalfMaps(Denoiser):
    """The whole network at half resolution: it predicts maps of ink and of paper, which stretch the page at full resolution."""

    def raw(self, page: Tensor) -> Tensor:
        out, _, _ = self.look(F.avg_pool2d(page, 2))
        residual, ink, paper = enlarged(out, 2).chunk(3, 1)
        low = 0.5 * torch.sigmoid(ink - 2)
        return (page - low) / (torch.sigmoid(paper) - low).clamp(min=0.05) + residual


class Single(Denoiser):
    """No second blocks on the way up: `refine_blocks` says nothing."""

    def __init__(self, widths: tuple[int, ...], bottom_blocks: int, refine_blocks: tuple[int, ...]) -> None:
        del refine_blocks
        super().__init__(widths, bottom_blocks)


class WideBottom(Denoiser):
    """128 channels at the lowest level in place of 96."""

    def __init__(self, widths: tuple[int, ...], **shape: Any) -> None:
        super().__init__((*widths[:-1], 128), **shape)


class DeepBottom(Denoiser):
    """Two blocks at the lowest level in place of one."""

    def __init__(self, bottom_blocks: int, **shape: Any) -> None:
        super().__init__(bottom_blocks=bottom_blocks + 1, **shape)


class Lower(Denoiser):
    """The second blocks on the way up at strides 4 and 8 in place of 2 and 4: as many multiply-adds, more weights."""

    def __init__(self, refine_blocks: tuple[int, ...], **shape: Any) -> None:
        super().__init__(refine_blocks=(0, *refine_blocks), **shape)


SHIPPED = "as it is"
# Not a network: the one that is shipped, trained by AdamW alone.
ADAMW = "AdamW alone"
IDEAS: dict[str, type[Denoiser]] = {
    SHIPPED: Denoiser,
    ADAMW: Denoiser,
    "no second blocks": Single,
    "second blocks lower": Lower,
    "wide bottom": WideBottom,
    "deep bottom": DeepBottom,
    "one paper": OnePaper,
    "no stretched pages": Unstretched,
    "gated": Gated,
    "half maps": HalfMaps,
    "relu": Relu,
    "plain": Plain,
}


def figures(folder: Path, settings: dict, name: str) -> dict[str, float]:
    """Trains one of them to the end; the figures of train.py's log."""
    trainer, feed = Trainer(folder, settings, IDEAS[name]), Feed(folder / "pool", settings)
    if name == ADAMW:
        train = settings["train"]
        trainer.optimizer = torch.optim.AdamW(  # type: ignore[assignment]
            trainer.net.parameters(), lr=train["rate"], weight_decay=train["weight_decay"], betas=(0.9, 0.99)
        )
    while trainer.step < settings["train"]["steps"]:
        trainer.advance(feed.batch(trainer.step))
    return measure.quick(trainer.mean, settings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where train.py keeps its pool")
    parser.add_argument("names", nargs="*", default=list(IDEAS), metavar="NAME", help=", ".join(IDEAS))
    parser.add_argument("--settings", type=Path, default=Path(__file__).resolve().parent / "train.toml")
    parser.add_argument("--steps", type=int, default=1500)
    args = parser.parse_args()
    settings = read_settings(args.settings)
    short = {"steps": args.steps, "cooldown_steps": args.steps, "compile": False, "batch": 4, "patch_px": 192}
    settings["train"] |= short | {"average": 0.99}
    print("| idea | multiply-adds a pixel | VA, c and p | held out | clean |\n|---|---|---|---|---|", flush=True)
    for name in args.names:
        cost = model.multiply_adds_per_pixel(IDEAS[name](**settings["model"]))
        got = figures(args.folder, settings, name)
        rmse = " | ".join(f"{got.get(key, float('nan')):.4f}" for key in ("va_cp", "held", "clean"))
        print(f"| {name} | {cost / 1000:.1f} k | {rmse} |", flush=True)


if __name__ == "__main__":
    main()
