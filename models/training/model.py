"""The network: a U-Net beside a classical estimate of the page, both in one graph.

Shapes are [N, C, H, W]; H and W are multiples of `MULTIPLE`. Pages are gray, 0 is black, 1 is white.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MULTIPLE = 32
# The paper is estimated twice, each time on a page shrunk by some factor and closed with a square window there. The wide
# window (28 pixels) is wider than the strokes of large type, and needs 36 pixels of context; the narrow one (10 pixels)
# follows the edges of stains, and swallows strokes of body text only.
WIDE, NARROW = (4, 7), (2, 5)
BLUR = 5
# The darkest and the brightest level around are looked for in squares of so many cells of 8 pixels to each side (56 and 104
# pixels wide): what is ink on a page of little contrast is dark for its surroundings only.
REACHES = (3, 6)
CELL = 8
CONTRAST_MIN = 0.08  # with less, the stretched page would show grain as ink
LEAK = 0.1


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


def smoothed(field: Tensor) -> Tensor:
    """The mean of each cell and its eight neighbours, of the same shape."""
    return F.avg_pool2d(field, 3, 1, 1, count_include_pad=False)


def stretched(half: Tensor, reach: int) -> Tensor:
    """A page [N, 1, H / 2, W / 2], stretched so that the darkest level within `reach` cells is 0 and the brightest is 1."""
    window = 2 * reach + 1
    dark = smoothed(-F.max_pool2d(F.max_pool2d(-half, CELL // 2), window, 1, reach))
    # Means of 4 pixels, so that noise does not make the brightest level.
    bright = smoothed(F.max_pool2d(F.max_pool2d(F.avg_pool2d(half, 2), CELL // 4), window, 1, reach))
    low, gain = enlarged(dark, CELL // 2), enlarged(1 / (bright - dark + CONTRAST_MIN), CELL // 2)
    return ((half - low) * gain).clamp(-0.2, 1.2)


class Block(nn.Module):
    """Two 3 x 3 convolutions around a leaky ReLU, added to the input; [N, C, H, W] -> the same.

    With a plain ReLU nearly all channels below the first level died within the first thousand steps, for good. The block
    begins as the identity, so that the first steps move the levels one by one.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)
        self.leak = LEAK

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.leaky_relu(self.first(x), self.leak))


# Channels that the U-Net sees at half resolution: three pages taken apart, two papers, two stretched pages.
SEEN = 16


def taking_apart() -> tuple[Tensor, Tensor, Tensor]:
    """Kernels [16, 3, 2, 2] and [16, 4, 1, 1] and a bias [16] that put 1 minus each pixel of three pages, and 1 minus four
    fields, into 16 channels: blank paper is nothing, and so is what lies beyond the edge."""
    apart, beside = torch.zeros(SEEN, 3, 2, 2), torch.zeros(SEEN, 4, 1, 1)
    for channel in range(12):
        apart[channel, channel // 4, channel % 4 // 2, channel % 2] = -1
    for field in range(4):
        beside[12 + field, field] = -1
    return apart, beside, torch.ones(SEEN)


class Denoiser(nn.Module):
    """Mixes the page, two divided pages and a residual, pixel by pixel; sees two stretched pages beside them.

    Level i of the U-Net works at stride 2^(i + 1) with `widths[i]` channels: one block on the way down, one on the way up
    and `refine_blocks[i]` more after it (none where it says nothing), and `bottom_blocks` at the lowest. Its context is 2 pixels of each block's stride twice
    over; see `context_px`.

    All of it keeps to what ONNX Runtime computes in blocks of 8 or 16 channels: 16 inputs, not 14, no transposed convolution,
    and the page taken apart by a convolution. With those, a page took 1.4 times as long (AVX2).
    """

    def __init__(
        self,
        widths: tuple[int, ...] = (16, 32, 64, 96),
        bottom_blocks: int = 1,
        refine_blocks: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        steps = list(zip(widths[:-1], widths[1:], strict=True))
        self.head = nn.Conv2d(SEEN, widths[0], 3, padding=1)
        self.encode = nn.ModuleList(Block(w) for w in widths[:-1])
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in steps)
        self.bottom = nn.Sequential(*[Block(widths[-1]) for _ in range(bottom_blocks)])
        self.up = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in steps)
        self.decode = nn.ModuleList(Block(w) for w in widths[:-1])
        more = itertools.zip_longest(widths[:-1], refine_blocks, fillvalue=0)
        self.refine = nn.ModuleList(nn.Sequential(*[Block(w) for _ in range(n)]) for w, n in more)
        self.tail = nn.Conv2d(widths[0], 12, 3, padding=1)
        # The untrained network is the classical one: the gates are mostly open and the residual zero.
        nn.init.zeros_(self.tail.weight)
        with torch.no_grad():
            self.tail.bias.copy_(torch.tensor([0.0] * 4 + [2.0] * 4 + [1.0] * 4))
        for name, kernel in zip(("apart", "beside", "blank"), taking_apart(), strict=True):
            self.register_buffer(name, kernel, persistent=False)

    def papers(self, page: Tensor) -> tuple[Tensor, Tensor]:
        """Two estimates of the paper, the wide and the narrow one, [N, 1, H / 2, W / 2] each."""
        return enlarged(paper_level(page, *WIDE), 2), paper_level(page, *NARROW)

    def seen(self, pages: Tensor, fields: Tensor) -> Tensor:
        """Pages [N, 3, H, W] and fields [N, 4, H / 2, W / 2] -> what the U-Net sees, [N, 16, H / 2, W / 2], 0 where blank."""
        return F.conv2d(pages, self.apart, self.blank, stride=2) + F.conv2d(fields, self.beside)

    def body(self, seen: Tensor) -> Tensor:
        """The U-Net: what is seen of the page, [N, 16, H / 2, W / 2] -> [N, 12, H / 2, W / 2]."""
        x = self.head(seen)
        skips = []
        for encode, down in zip(self.encode, self.down, strict=True):
            skips.append(encode(x))
            x = down(skips[-1])
        x = self.bottom(x)
        for i in reversed(range(len(skips))):
            x = self.refine[i](self.decode[i](enlarged(self.up[i](x), 2) + skips[i]))
        return self.tail(x)

    def fields(self, page: Tensor, wide: Tensor, narrow: Tensor) -> Tensor:
        """What it sees beside the page and the divided pages: two papers, two stretched pages, [N, 4, H / 2, W / 2]."""
        half = F.avg_pool2d(page, 2)
        return torch.cat([wide, narrow, *(stretched(half, reach) for reach in REACHES)], 1)

    def look(self, page: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """page [N, 1, H, W] -> three maps [N, 3, H, W], and the page divided by the wide paper and by the narrow one."""
        wide, narrow = self.papers(page)
        coarse, fine = divided(page, enlarged(wide, 2)), divided(page, enlarged(narrow, 2))
        out = self.body(self.seen(torch.cat([page, coarse, fine], 1), self.fields(page, wide, narrow)))
        return F.pixel_shuffle(out, 2), coarse, fine

    def raw(self, page: Tensor) -> Tensor:
        """page float [N, 1, H, W] in 0..1 -> estimate of the clean page, not clamped, of the same shape."""
        out, coarse, fine = self.look(page)
        residual, gate, follow = out[:, :1], torch.sigmoid(out[:, 1:2]), torch.sigmoid(out[:, 2:])
        quotient = coarse + follow * (fine - coarse)
        return page + gate * (quotient - page) + residual

    def forward(self, page: Tensor) -> Tensor:
        """page float [N, 1, H, W] in 0..1 -> clean page in 0..1 of the same shape."""
        return self.raw(page).clamp(0, 1)


def multiply_adds_per_pixel(net: nn.Module, side: int = 256) -> float:
    """Multiply-adds of all trained convolutions for one pixel of the page; taking it apart adds 64."""
    total = 0

    def count(layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        weights = layer.weight.numel()  # type: ignore[union-attr]
        cells = output.shape[-1] * output.shape[-2]
        total += weights * cells

    hooks = [m.register_forward_hook(count) for m in net.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        net(torch.zeros(1, 1, side, side))
    for hook in hooks:
        hook.remove()
    return total / side**2
