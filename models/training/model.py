"""The network: a three-level U-Net beside a classical estimate of the page, both in one graph.

Shapes are [N, C, H, W]; H and W are multiples of `MULTIPLE`. Pages are gray, 0 is black, 1 is white.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MULTIPLE = 32
# The paper is estimated twice, each time on a page shrunk by some factor and closed with a square window there. The wide
# window (28 pixels) is wider than the strokes of large type, and needs 36 pixels of context; the narrow one (10 pixels)
# follows the edges of stains, and swallows strokes of body text only.
WIDE, NARROW = (4, 7), (2, 5)
BLUR = 5


def paper_level(page: Tensor, pool: int, window: int) -> Tensor:
    """Paper brightness by a morphological closing, then a mean; page [N, 1, H, W] -> [N, 1, H/pool, W/pool]."""
    small = F.max_pool2d(page, pool)
    closed = -F.max_pool2d(-F.max_pool2d(small, window, 1, window // 2), window, 1, window // 2)
    return F.avg_pool2d(closed, BLUR, 1, BLUR // 2, count_include_pad=False)


def enlarged(field: Tensor, factor: int) -> Tensor:
    """[N, C, H, W] -> [N, C, H * factor, W * factor], bilinearly."""
    return F.interpolate(field, scale_factor=factor, mode="bilinear", align_corners=False)


def divided(page: Tensor, paper: Tensor) -> Tensor:
    """The page over its paper (both [N, 1, H, W]), stretched so that ink is 0 and paper is 1."""
    return ((page / (paper + 0.02) - 0.2) / 0.7).clamp(-0.2, 1.2)


class Block(nn.Module):
    """Two 3 x 3 convolutions around a ReLU, added to the input; [N, C, H, W] -> the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(x)))


class Denoiser(nn.Module):
    """Mixes the page, two divided pages and a residual, pixel by pixel.

    Three levels at strides 2, 4 and 8 keep the context of the convolutions within 60 pixels, so that tiles that overlap
    by 64 give what the whole page gives.
    """

    def __init__(self, widths: tuple[int, int, int] = (16, 48, 64), bottom_blocks: int = 2) -> None:
        super().__init__()
        a, b, c = widths
        self.head = nn.Conv2d(14, a, 3, padding=1)
        self.encode_a, self.encode_b = Block(a), Block(b)
        self.down_a, self.down_b = nn.Conv2d(a, b, 2, stride=2), nn.Conv2d(b, c, 2, stride=2)
        self.bottom = nn.Sequential(*[Block(c) for _ in range(bottom_blocks)])
        self.up_b, self.up_a = nn.ConvTranspose2d(c, b, 2, stride=2), nn.ConvTranspose2d(b, a, 2, stride=2)
        self.decode_b, self.decode_a = Block(b), Block(a)
        self.tail = nn.Conv2d(a, 12, 3, padding=1)
        # The untrained network is the classical one: the gates are mostly open and the residual zero.
        nn.init.zeros_(self.tail.weight)
        with torch.no_grad():
            self.tail.bias.copy_(torch.tensor([0.0] * 4 + [2.0] * 4 + [1.0] * 4))

    def raw(self, page: Tensor) -> Tensor:
        """page float [N, 1, H, W] in 0..1 -> estimate of the clean page, not clamped, of the same shape."""
        wide, narrow = enlarged(paper_level(page, *WIDE), 2), paper_level(page, *NARROW)
        coarse, fine = divided(page, enlarged(wide, 2)), divided(page, enlarged(narrow, 2))
        x = torch.cat([*(F.pixel_unshuffle(p, 2) for p in (page, coarse, fine)), wide, narrow], 1)
        skip_a = self.encode_a(self.head(x))
        skip_b = self.encode_b(self.down_a(skip_a))
        deep = self.bottom(self.down_b(skip_b))
        deep = self.decode_b(self.up_b(deep) + skip_b)
        out = self.tail(self.decode_a(self.up_a(deep) + skip_a))
        residual = F.pixel_shuffle(out[:, :4], 2)
        gate, follow = (torch.sigmoid(F.pixel_shuffle(out[:, i : i + 4], 2)) for i in (4, 8))
        quotient = coarse + follow * (fine - coarse)
        return page + gate * (quotient - page) + residual

    def forward(self, page: Tensor) -> Tensor:
        """page float [N, 1, H, W] in 0..1 -> clean page in 0..1 of the same shape."""
        return self.raw(page).clamp(0, 1)


def multiply_adds_per_pixel(net: nn.Module, side: int = 256) -> float:
    """Multiply-adds of all convolutions for one pixel of the page."""
    total = 0

    def count(layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        weights = layer.weight.numel()  # type: ignore[union-attr]
        cells = output.shape[-1] * output.shape[-2]
        # A transposed 2 x 2 convolution of stride 2 uses each weight once per input cell.
        total += weights * (cells // 4 if isinstance(layer, nn.ConvTranspose2d) else cells)

    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    hooks = [m.register_forward_hook(count) for m in net.modules() if isinstance(m, kinds)]
    with torch.no_grad():
        net(torch.zeros(1, 1, side, side))
    for hook in hooks:
        hook.remove()
    return total / side**2
