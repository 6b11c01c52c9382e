"""Logistic regression by scikit-learn, which knows no torch: arrays go in and come out."""

from pathlib import Path

import numpy as np
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

from participant import ArrayTask

FEATURES = 21  # columns before the label: the same at every site, as the model is


class Example(ArrayTask):
    """What this site trains, and on what."""

    def initial(self):
        """A new model's arrays: what scikit-learn names coef_ and intercept_."""
        return {"coef": np.zeros((1, FEATURES), np.float32), "intercept": np.zeros(1, np.float32)}

    def load(self, data: Path):
        """The rows in the file that --data names, each column by this site's own mean and spread; the label is last."""
        table = np.genfromtxt(data, delimiter=",", skip_header=1, ndmin=2)
        x = (table[:, :-1] - np.nanmean(table[:, :-1], axis=0)) / (np.nanstd(table[:, :-1], axis=0) + 1e-6)
        return np.column_stack([np.nan_to_num(x), table[:, -1]])  # what is not known counts as the mean

    def fit(self, tensors, examples, training, seed):
        """Go on from the base model for the plan's epochs, one example after another."""
        x, y = examples[:, :-1], examples[:, -1]
        chance = np.random.RandomState(seed % 2**32)
        model = SGDClassifier(
            loss="log_loss", learning_rate="constant", eta0=training.learning_rate, random_state=chance
        )
        model.partial_fit(x[:1], y[:1], classes=[0, 1])  # makes its arrays, which are now the base model's
        model.coef_[:], model.intercept_[:] = tensors["coef"], tensors["intercept"]
        for _ in range(training.epochs):
            model.partial_fit(x, y)
        return {"coef": model.coef_, "intercept": model.intercept_}

    def evaluate(self, tensors, examples):
        """How good a model is on some rows."""
        x, y = examples[:, :-1], examples[:, -1]
        scores = (x @ tensors["coef"].T + tensors["intercept"]).ravel()
        found = {
            "loss": log_loss(y, 1 / (1 + np.exp(-scores)), labels=[0, 1]),
            "accuracy": accuracy_score(y, scores > 0),
        }
        return {**found, "auc": roc_auc_score(y, scores)} if len(set(y)) == 2 else found
