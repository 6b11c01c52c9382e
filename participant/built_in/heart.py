"""Heart disease: 21 numbers of a patient; four hospitals' files come from `fedledger task data heart FOLDER`."""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import TensorDataset

from participant import Task
from participant.heart import FEATURES, TYPICAL


class Heart(Task):
    """Whether a patient has a heart disease."""

    def model(self) -> nn.Module:
        """The demo's network; its one output is the logit of a disease."""
        return nn.Sequential(nn.Linear(FEATURES, 16), nn.ReLU(), nn.Linear(16, 1))

    def load(self, data: Path) -> TensorDataset:
        """The rows of a CSV file, scaled by fixed numbers, so that private plans protect them whole."""
        table = np.genfromtxt(data, delimiter=",", skip_header=1, ndmin=2)
        mean, spread = np.array(list(TYPICAL.values())).T
        numbers = np.nan_to_num((table[:, : len(TYPICAL)] - mean) / spread)  # what is not known counts as the mean
        x = np.column_stack([numbers, table[:, len(TYPICAL) : -1] - 0.5])
        return TensorDataset(torch.tensor(x, dtype=torch.float32), torch.tensor(table[:, -1], dtype=torch.float32))
