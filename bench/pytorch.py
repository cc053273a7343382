"""The same network in PyTorch: `python bench/pytorch.py IMAGES.npy LABELS.npy BATCH LEARNING_RATE`.

It is spared all augmentation and decoding: float32 images lie in memory as one tensor, a step takes a batch from it.
Of channels-last, bfloat16 (autocast) and `torch.compile` the fastest combination is tried out and used.
"""

import itertools
import sys
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from measure import serve
from torch import nn

TRIAL = 6  # steps that choose the combination, after as many to warm up
Step = Callable[[torch.Tensor, torch.Tensor], None]
warnings.simplefilter("ignore")


def baseline() -> nn.Sequential:
    """The specified network; 1,498,218 weights on 224×224."""
    network = nn.Sequential(
        *(nn.Conv2d(1, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(54 * 54 * 32, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 2)),
    )
    assert sum(weights.numel() for weights in network.parameters()) == 1_498_218
    return network


def trained(rate: float, channels_last: bool, bfloat16: bool, compile_: bool) -> Step:
    """One step of Adam."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = baseline().to(memory_format=layout)
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


def fastest(rate: float, images: torch.Tensor, labels: torch.Tensor) -> tuple[str, Step]:
    """The fastest combination by name, tried on one batch; one that fails here is out."""
    tried = {}
    for choice in itertools.product((False, True), repeat=3):
        name = " + ".join(itertools.compress(("channels-last", "bfloat16", "compile"), choice)) or "plain"
        step = trained(rate, *choice)
        try:
            for count in range(2 * TRIAL):
                if count == TRIAL:
                    begun = time.perf_counter()
                step(images, labels)
        except Exception as failure:  # whatever a compiler on this machine may raise
            print(f"PyTorch with {name} fails: {failure}", file=sys.stderr)
            continue
        tried[name] = time.perf_counter() - begun, step
    name = min(tried, key=lambda name: tried[name][0])
    return name, tried[name][1]


def main() -> None:
    """Serve one epoch in random order."""
    batch, rate = int(sys.argv[3]), float(sys.argv[4])
    images = torch.from_numpy(np.load(sys.argv[1]).astype(np.float32)[:, None] / 255)
    labels = torch.from_numpy(np.load(sys.argv[2]))
    name, step = fastest(rate, images[:batch], labels[:batch])

    def once() -> None:
        for chosen in torch.randperm(len(images)).split(batch):
            step(images[chosen], labels[chosen])

    serve(once, best=name)


if __name__ == "__main__":
    main()
