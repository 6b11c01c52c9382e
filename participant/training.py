"""Local training of the demo's network in torch; the same inputs and seed give the same numbers on one machine."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ledger.plan import TensorSpec, Training

HIDDEN = 16
MOMENTUM = 0.9

Floats = npt.NDArray[np.float32]
Tensors = dict[str, Floats]


def schema(features: int) -> dict[str, TensorSpec]:
    """The tensors of a network for rows of `features` numbers, as a plan names them."""
    return {
        name: TensorSpec(dtype="F32", shape=list(tensor.shape))
        for name, tensor in _network(features).state_dict().items()
    }


def initial(features: int, seed: int) -> Tensors:
    """A network's tensors before any training."""
    random = torch.Generator().manual_seed(seed)
    network = _network(features)
    for name, parameter in network.named_parameters():
        if name.endswith("weight"):
            nn.init.kaiming_uniform_(parameter, nonlinearity="relu", generator=random)
        else:
            nn.init.zeros_(parameter)
    return _tensors(network)


def train(start: Mapping[str, Floats], x: Floats, y: Floats, training: Training, seed: int) -> Tensors:
    """Train a network from `start`.

    Args:
        start: Its tensors by name, of any shape.
        x: (rows, features).
        y: (rows,) 0 or 1.
        training: Epochs, batch size and learning rate.
        seed: Decides the order of the rows.

    Returns:
        Its tensors after training.
    """
    torch.set_num_threads(1)
    network = _loaded(start, x.shape[1])
    optimizer = torch.optim.SGD(network.parameters(), lr=training.learning_rate, momentum=MOMENTUM)
    loss = nn.BCEWithLogitsLoss()
    random = torch.Generator().manual_seed(seed)
    rows, labels = torch.from_numpy(x), torch.from_numpy(y)
    for _ in range(training.epochs):
        order = torch.randperm(len(rows), generator=random)
        for at in range(0, len(rows), training.batch_size):
            batch = order[at : at + training.batch_size]
            optimizer.zero_grad()
            loss(network(rows[batch]).squeeze(1), labels[batch]).backward()
            optimizer.step()
    return _tensors(network)


def score(tensors: Mapping[str, Floats], x: Floats) -> Floats:
    """The network's probability of label 1 for every row of `x`: (rows,)."""
    with torch.no_grad():
        scores: Floats = torch.sigmoid(_loaded(tensors, x.shape[1])(torch.from_numpy(x))).squeeze(1).numpy()
    return scores


def _network(features: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(features, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1))


def _loaded(tensors: Mapping[str, Floats], features: int) -> nn.Sequential:
    network = _network(features)
    shapes = network.state_dict()
    network.load_state_dict(
        {name: torch.from_numpy(array.copy()).reshape(shapes[name].shape) for name, array in tensors.items()}
    )
    return network


def _tensors(network: nn.Sequential) -> Tensors:
    return {name: tensor.detach().numpy().copy() for name, tensor in network.state_dict().items()}
