"""Handwritten digits of 8 x 8 pixels; files of several sites come from `fedledger task data digits FOLDER`."""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import TensorDataset

from participant import Task

PIXELS, DIGITS, WHITE = 64, 10, 16


class Digits(Task):
    """Which digit it is."""

    def model(self) -> nn.Module:
        """A small network with an output for each digit."""
        return nn.Sequential(nn.Linear(PIXELS, 32), nn.ReLU(), nn.Linear(32, DIGITS))

    def load(self, data: Path) -> TensorDataset:
        """The rows of a CSV file: 64 pixels from 0 to 16, and the digit."""
        table = np.loadtxt(data, delimiter=",", skiprows=1, ndmin=2)
        x, y = table[:, :-1] / WHITE, table[:, -1]
        return TensorDataset(torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.int64))
