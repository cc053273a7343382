"""The same network in PyTorch: `python bench/pytorch.py IMAGES.npy LABELS.npy BATCH LEARNING_RATE PRECISION`.

There is no augmentation or decoding: float32 images are in memory as one tensor, from which each step takes a batch.
PRECISION is float32 or bfloat16 (autocast). Of channels-last and `torch.compile` the fastest combination is measured
and used.
"""

import itertools
import math
import sys
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from measure import serve
from torch import nn

TRIAL = 6  # timed steps per combination, after as many for warm-up
Step = Callable[[torch.Tensor, torch.Tensor], None]
warnings.simplefilter("ignore")


def baseline(height: int, width: int) -> nn.Sequential:
    """Return the specified network; 1,498,218 weights at 224×224."""
    inputs = 32 * math.prod(((side - 4) // 2 - 2) // 2 for side in (height, width))
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(inputs, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 2)),
    )


def training_step(size: tuple[int, int], rate: float, bfloat16: bool, channels_last: bool, compile_: bool) -> Step:
    """Return a training step with Adam on images of this height and width."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = baseline(*size).to(memory_format=layout)
    optimizer = torch.optim.Adam(network.parameters(), rate, fused=True)
    forward = torch.compile(network) if compile_ else network

    def step(images: torch.Tensor, labels: torch.Tensor) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            output = forward(images.contiguous(memory_format=layout))
        loss = nn.functional.cross_entropy(output.float(), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def fastest(rate: float, bfloat16: bool, images: torch.Tensor, labels: torch.Tensor) -> tuple[str, Step]:
    """Return the name and step of the fastest combination on one batch; combinations that fail are skipped."""
    tried = {}
    for choice in itertools.product((False, True), repeat=2):
        name = " + ".join(itertools.compress(("channels-last", "compile"), choice)) or "plain"
        step = training_step(images.shape[2:], rate, bfloat16, *choice)
        try:
            for count in range(2 * TRIAL):
                if count == TRIAL:
                    begun = time.perf_counter()
                step(images, labels)
        except Exception as failure:  # compilers raise many types
            print(f"PyTorch with {name} fails: {failure}", file=sys.stderr)
            continue
        tried[name] = time.perf_counter() - begun, step
    name = min(tried, key=lambda name: tried[name][0])
    return name, tried[name][1]


def main() -> None:
    """Serve one epoch in random order of the images."""
    batch, rate, bfloat16 = int(sys.argv[3]), float(sys.argv[4]), sys.argv[5] == "bfloat16"
    images = torch.from_numpy(np.load(sys.argv[1]).astype(np.float32)[:, None] / 255)
    labels = torch.from_numpy(np.load(sys.argv[2]))
    name, step = fastest(rate, bfloat16, images[:batch], labels[:batch])

    def once() -> None:
        for chosen in torch.randperm(len(images)).split(batch):
            step(images[chosen], labels[chosen])

    serve(once, best=name)


if __name__ == "__main__":
    main()
