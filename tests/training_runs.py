"""Runs that tests compare and cut short."""

import csv
import os
import signal

import torch
from safetensors.torch import load_file

from pairsift.data import SimCLRViews
from pairsift.train import Run

VIEWS = SimCLRViews(crop_scale=(0.5, 1.0), jitter=0, grey=0)


def weights(run):
    return load_file(Run(run).encoder_file)


def same(a, b):
    assert a.keys() == b.keys()
    return all(torch.equal(a[name], b[name]) for name in a)


def numbers(run):
    """Rows of metrics.csv without what depends on the clock."""
    with Run(run).metrics_file.open() as file:
        return [
            {name: value for name, value in row.items() if name not in ("images_per_second", "seconds")}
            for row in csv.DictReader(file)
        ]


class At:
    """The policy of the tests, which does something at one of its calls (two a step)."""

    def __init__(self, call, action):
        self.calls, self.call, self.action = 0, call, action

    def __call__(self, images):
        self.calls += 1
        views = VIEWS(images)
        if self.calls == self.call:
            views = self.action(views) if callable(self.action) else views
        return views


def interrupt(views):
    os.kill(os.getpid(), signal.SIGINT)
    return views


def crash(views):
    raise RuntimeError("power cut")
