"""A site's own policy: by which plans, for whom and with which task it trains, whatever charter and others say.

It is a TOML file of the site's own, which its people can read and change; what it does not allow is not trained for.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from os.path import lexists
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from ledger.age import read_age_key, show_age_key
from ledger.errors import UsageError
from ledger.history import Round
from ledger.plan import Plan
from ledger.storage.folder import read_regular

MAX_POLICY_BYTES = 1 << 20


def _is_age_key(text: str) -> str:
    read_age_key(text)
    return text


AgeKey = Annotated[str, AfterValidator(_is_age_key)]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Policy(BaseModel):
    """What a round must keep to; what is left out is not limited, but for updates that are not sealed.

    Attributes:
        strategies: The names of the strategies by which updates may be combined.
        max_epsilon: The largest budget of differential privacy; a plan must have one then.
        recipients: The age public keys to which updates may be sealed, beside the site's own.
        min_sites: The smallest quorum: of so many updates, at least, is every model.
        tasks: The sha256 digests of the task files that may be run.
        allow_unsealed: Whether a plan may have updates that anyone can read.
        metrics: Whether updates say what their base model achieves on this site's held-out examples.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    strategies: list[str] | None = None
    max_epsilon: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    recipients: list[AgeKey] | None = None
    min_sites: Annotated[int, Field(ge=1, lt=1 << 16)] | None = None
    tasks: list[Digest] | None = None
    allow_unsealed: bool = False
    metrics: bool = True

    def refused(self, plan: Plan, known: Round, recipients: Sequence[bytes], task_digest: str) -> list[str]:
        """What in a round is not allowed, a phrase each.

        Args:
            plan: The round's.
            known: The round.
            recipients: The age public keys (32 bytes) to which its updates are sealed, without the site's own.
            task_digest: The sha256 of the task's file.
        """
        found = self.refused_task(task_digest) + self.refused_plan(plan)
        if self.min_sites is not None:
            if known.opened.quorum < self.min_sites <= plan.quorum:  # as opened by who keeps to no plan
                found.append(f"the round's quorum {known.opened.quorum}, the policy's min_sites is {self.min_sites}")
            if known.eligible < self.min_sites:
                found.append(f"eligible sites {known.eligible}, the policy's min_sites is {self.min_sites}")
        if self.recipients is not None and plan.seal != "none":
            others = sorted(set(map(show_age_key, recipients)) - set(self.recipients))
            found += [f"recipient {key}, which the policy's recipients do not have" for key in others]
        return found

    def refused_plan(self, plan: Plan) -> list[str]:
        """What in a plan alone is not allowed."""
        found = []
        if self.strategies is not None and plan.strategy.name not in self.strategies:
            allowed = ", ".join(self.strategies) or "none"
            found.append(f"strategy {plan.strategy.name}, the policy's strategies are {allowed}")
        if self.max_epsilon is not None:
            budget = plan.privacy.budget if plan.privacy else None
            if budget is None:
                found.append(f"no privacy budget, the policy's max_epsilon is {self.max_epsilon:g}")
            elif budget > self.max_epsilon:
                found.append(f"privacy budget {budget:g}, the policy's max_epsilon is {self.max_epsilon:g}")
        if self.min_sites is not None and plan.quorum < self.min_sites:
            found.append(f"quorum {plan.quorum}, the policy's min_sites is {self.min_sites}")
        if plan.seal == "none" and not self.allow_unsealed:
            found.append("seal none, the policy's allow_unsealed is false")
        return found

    def refused_task(self, digest: str) -> list[str]:
        """Whether a task's file is not allowed."""
        if self.tasks is None or digest in self.tasks:
            return []
        return [f"task {digest}, which the policy's tasks do not have"]


@dataclass
class PolicyFile:
    """Where the policy is; it is read anew for every round, so that it can be changed meanwhile.

    Attributes:
        path: The file.
        required: It has to be there: it was named, or was there before.
    """

    path: Path
    required: bool = True

    def read(self) -> Policy | None:
        """The policy; None where there is none and none is required.

        Raises:
            UsageError: If it cannot be read; with the key, and what is wrong with it.
        """
        if not self.required and not lexists(self.path):
            return None
        self.required = True
        return read_policy(self.path)

    def require_task(self, source: bytes) -> str:
        """The digest of a task's file, which is not run yet.

        Raises:
            UsageError: If the policy cannot be read, or does not allow to run it.
        """
        digest, policy = hashlib.sha256(source).hexdigest(), self.read()
        if policy is not None and policy.refused_task(digest):
            raise UsageError(f"{self.path} does not have {digest} among its tasks: read the task, and add it there")
        return digest


def read_policy(path: Path) -> Policy:
    """Read a policy; raises what `PolicyFile.read` does."""
    try:
        text = read_regular(path, MAX_POLICY_BYTES).decode("utf-8-sig")
        return Policy.model_validate(tomllib.loads(text))
    except OSError as error:
        raise UsageError(f"there is no policy to read at {path} ({error.strerror}): put it there, or name it") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise UsageError(f"the policy {path} is no TOML file ({why}): correct it") from None
    key, known = str(first["loc"][0]), list(Policy.model_fields)
    if first["type"] == "extra_forbidden":
        near = get_close_matches(key, known, 1)
        meant = f"did you mean {near[0]}?" if near else f"the keys are {', '.join(known)}"
        raise UsageError(f"the policy {path} cannot be used: {key!r} is no key of it: {meant}")
    where, said = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
    raise UsageError(f"the policy {path} cannot be used: {where}: {said}; correct it, or take the line out")
