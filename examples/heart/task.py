"""A task for a CSV file with a header: numbers, empty where one is not known; the last column is the label, 0 or 1."""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import TensorDataset

from participant import Task

FEATURES = 21  # columns before the label: the same at every site, as the model is


class Example(Task):
    """What this site trains, and on what."""

    def model(self) -> nn.Module:
        """A new model; its one output is the logit of label 1."""
        return nn.Sequential(nn.Linear(FEATURES, 16), nn.ReLU(), nn.Linear(16, 1))

    def load(self, data: Path) -> TensorDataset:
        """The examples in the file that --data names, each column by this site's own mean and spread."""
        table = np.genfromtxt(data, delimiter=",", skip_header=1, ndmin=2)
        x, y = table[:, :-1], table[:, -1]
        x = (x - np.nanmean(x, axis=0)) / (np.nanstd(x, axis=0) + 1e-6)
        x = np.nan_to_num(x)  # what is not known counts as the mean
        return TensorDataset(torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32))
