"""Writes the shipped graph from a checkpoint, with its digest and its description beside it.

    python export.py CHECKPOINT OUT.onnx [--version 1]

One file, opset 17: `page` uint8 [1, 1, H, W] in, `clean` uint8 of the same shape out, H and W multiples of 32; scaling,
clamp and rounding are in the graph.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import Tensor, nn

from model import MULTIPLE, Denoiser

OPSET = 17
TILE_PX = 1216  # core of 960 and an overlap of 128 on each side
# Pixels around a pixel that matter by more than one gray level, measured with tiles (evaluate.py --tiles). In theory it is
# 128 for the convolutions and 36 more for the estimate of the paper.
RECEPTIVE_MARGIN_PX = 128

PROBE = """
import sys
import numpy as np, onnxruntime as ort
path, side, arena = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "on"
def peak_kib():
    # Not ru_maxrss, which a child inherits from its parent.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
options = ort.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
options.enable_cpu_mem_arena = arena
session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
session.run(None, {"page": np.full((1, 1, 64, 64), 200, np.uint8)})
page = np.full((1, 1, side, side), 200, np.uint8)
before = peak_kib()
session.run(None, {"page": page})
print(1024 * (peak_kib() - before))
"""


class Shipped(nn.Module):
    """Bytes in, bytes out; uint8 [1, 1, H, W]."""

    def __init__(self, net: Denoiser) -> None:
        super().__init__()
        self.net = net

    def forward(self, page: Tensor) -> Tensor:
        return (self.net(page.float() / 255) * 255 + 0.5).clamp(0, 255).to(torch.uint8)


def load(checkpoint: Path) -> Denoiser:
    """The running mean of the weights of a checkpoint."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    net = Denoiser(**state["model"])
    net.load_state_dict(state["mean"])
    return net.eval()


def write(net: Denoiser, out: Path) -> None:
    """Writes the graph and checks that ONNX Runtime computes what PyTorch does, within one gray level."""
    shipped, axes = Shipped(net.eval()), {2: "h", 3: "w"}
    torch.onnx.export(
        shipped,
        (torch.zeros(1, 1, 256, 256, dtype=torch.uint8),),
        str(out),
        input_names=["page"],
        output_names=["clean"],
        opset_version=OPSET,
        dynamo=False,
        dynamic_axes={"page": axes, "clean": axes},
    )
    onnx.checker.check_model(str(out), full_check=True)
    page = np.random.default_rng(0).integers(0, 256, (1, 1, 5 * MULTIPLE, 3 * MULTIPLE), dtype=np.uint8)
    with torch.no_grad():
        expected = shipped(torch.from_numpy(page)).numpy()
    got = ort.InferenceSession(str(out), providers=["CPUExecutionProvider"]).run(None, {"page": page})[0]
    if got.dtype != np.uint8 or got.shape != page.shape or np.abs(got.astype(int) - expected).max() > 1:
        raise SystemExit("the exported graph does not compute what the network does")


def peak_bytes_per_pixel(out: Path, arena: str, side: int = TILE_PX) -> float:
    """Growth of resident memory by one tile of side x side, in a process of its own, per pixel of the tile."""
    command = [sys.executable, "-c", PROBE, str(out), str(side), arena]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout) / side**2


def describe(out: Path, version: str, side: int = TILE_PX) -> None:
    """Writes OUT.onnx.sha256 in the format of sha256sum, and OUT.toml."""
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    out.with_name(out.name + ".sha256").write_text(f"{digest}  {out.name}\n")
    on, off = (peak_bytes_per_pixel(out, arena, side) for arena in ("on", "off"))
    out.with_suffix(".toml").write_text(
        f'name = "{out.stem}"\nversion = "{version}"\nsha256 = "{digest}"\ninput = "page"\noutput = "clean"\n'
        f"multiple = {MULTIPLE}\nreceptive_margin_px = {RECEPTIVE_MARGIN_PX}\nopset = {OPSET}\n\n"
        f"# Peak memory of one tile of {side} x {side} over its pixels: one session, one thread, weights not counted.\n"
        f"[bytes_per_pixel_peak]\narena_on = {on:.1f}\narena_off = {off:.1f}\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--version", default="1")
    args = parser.parse_args()
    write(load(args.checkpoint), args.out)
    describe(args.out, args.version)


if __name__ == "__main__":
    main()
