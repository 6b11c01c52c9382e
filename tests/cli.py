"""The command line on a real chain: a federation whose every party has a keystore file, driven through `fedledger`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak

from ledger.age import show_age_key
from ledger.chain.contract import LedgerContract
from ledger.cid import Cid
from ledger.cli import main
from ledger.sealing import public_key
from ledger.storage.folder import FolderStore
from ledger.storage.location import open_store
from ledger.updates import MODEL_HEADER, Place, encode, update_header
from tests.anvil import Anvil
from tests.world import NO_METRICS, SCHEMA, SEALED, identity_of, tensors

NOTHING: Mapping[str, str | None] = {}

AGE_KEY = show_age_key(keccak(b"an age key"))
PASSWORD = "correct horse\n"
PARTIES = {"site 1": "participant", "site 2": "participant", "aggregator": "aggregator", "auditor": "auditor"}


def kinds(document: dict[str, list[dict[str, object]]]) -> list[object]:
    """The kinds of the entries that a command says it recorded; each comes with its place and head."""
    assert all({"entry", "block", "transaction", "head"} <= set(row) for row in document["recorded"])
    return [row["kind"] for row in document["recorded"]]


@dataclass
class Cli:
    """Runs commands as one party or another; every command runs in its own store and against `anvil`."""

    anvil: Anvil
    folder: Path
    ledger: str = ""
    state: Path = field(init=False)
    """Each party remembers in a folder of its own in here."""
    store: str = field(init=False)
    """Where they keep blobs."""
    accounts: dict[str, LocalAccount] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.state, self.store = self.folder / "state", str(self.folder / "blobs")

    def party(self, name: str) -> LocalAccount:
        """A party's account, with its keystore on disk, and with ether unless it is called ``poor``."""
        if name not in self.accounts:
            account: LocalAccount = Account.from_key(keccak(name.encode()))
            keystore = Account.encrypt(account.key, PASSWORD.strip(), kdf="pbkdf2", iterations=1)
            self.path(f"{name}.json").write_text(json.dumps(keystore))
            self.path("password").write_text(PASSWORD)
            self.accounts[name] = account
        self.anvil.fund(self.accounts[name].address, 0 if name == "poor" else 100)
        return self.accounts[name]

    def address(self, name: str) -> str:
        return str(self.party(name).address)

    def path(self, name: str) -> Path:
        return self.folder / name

    def file(self, name: str, content: bytes | str) -> str:
        self.path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(self.path(name))

    def variables(self, party: str) -> dict[str, str | None]:
        """The environment of a party's commands."""
        return {
            "FEDLEDGER_RPC": self.anvil.url,
            "FEDLEDGER_LEDGER": self.ledger,
            "FEDLEDGER_STORE": self.store,
            "FEDLEDGER_STATE": str(self.state / party),
            "FEDLEDGER_FINALITY": "latest",
            "FEDLEDGER_KEYSTORE": str(self.path(f"{party}.json")),
            "FEDLEDGER_PASSWORD_FILE": str(self.path("password")),
        }

    def run(
        self, party: str, *arguments: str, yes: bool = True, environment: Mapping[str, str | None] = NOTHING
    ) -> Result:
        """Run a command as a party; it confirms, where `yes` says so."""
        variables = self.variables(party)
        if party != "nobody":
            self.party(party)
        confirmed = ["--yes"] if yes and party != "nobody" else []
        result = CliRunner().invoke(main, [*arguments, *confirmed], env=variables | dict(environment))
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert "Traceback" not in result.output
        assert "a defect in fedledger" not in result.output
        return result

    def ok(self, party: str, *arguments: str) -> Any:
        """Run a command that must end with 0, and give its JSON document."""
        result = self.run(party, *arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    def look(self, *arguments: str) -> Any:
        """What a command that only reads says, in JSON."""
        return self.ok("nobody", *arguments)

    def refused(self, status: int, party: str, *arguments: str, environment: Mapping[str, str | None] = NOTHING) -> str:
        """Run a command that must end with this status and one sentence, and give the sentence."""
        result = self.run(party, *arguments, environment=environment)
        assert result.exit_code == status, result.output
        lines = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
        assert len(lines) == 1, result.output
        assert not result.stdout or "--json" not in arguments
        return lines[0].removeprefix("Error: ")

    def move_blobs(self, store: str) -> None:
        """Keep all blobs in another store from now on."""
        before, after = FolderStore(Path(self.store)), open_store(store)
        for path in before.folder.iterdir():
            after.copy(Cid.parse(path.name), before)
        self.store = store

    def age_key(self, party: str) -> str:
        """A party's age public key, whose secret part is in its state folder from then on, not encrypted."""
        identity = identity_of(self.party(party))
        path = self.state / party / "age.key"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{identity}\n")
        return public_key(identity)

    # ------------------------------------------------------------------ steps

    def found(self, genesis: bytes = encode(MODEL_HEADER, SCHEMA, tensors(0))) -> None:  # bytes
        """Deploy, admit all parties, let them accept, and record the genesis model."""
        self.ledger = self.ok("governor", "deploy", "--charter", self.file("charter.md", "# Charter\nWe agree.\n"))[
            "ledger"
        ]
        for name, role in PARTIES.items():
            self.ok("governor", "member", "admit", self.address(name), "--name", name, "--role", role)
            self.ok(name, "charter", "accept", "--age-key", self.age_key(name))
        self.ok("governor", "round", "genesis", self.file("model", genesis))

    def open(self, **changes: Any) -> int:
        plan = json.dumps(json.loads(SEALED.model_copy(update=changes).encode()))
        number: int = self.ok("aggregator", "round", "open", self.file("plan.json", plan))["round"]
        return number

    def update(self, member: int, examples: int = 10, metrics: Mapping[str, float] = NO_METRICS) -> str:
        """The file of a member's update for the newest round."""
        history = LedgerContract.attach(self.anvil.web3, self.ledger).history()
        place = Place.of(history.genesis, history.rounds[history.latest_round].opened)
        header = update_header(place, member, examples, metrics=metrics)
        return self.file(f"update {member}", encode(header, SCHEMA, tensors(member)))

    def signed(self, member: int, number: int = 1) -> str:
        """The file of a member's signed update."""
        arguments = ("round", "post", str(number), self.update(member), "--weight", "10", "--sign-only")
        return self.file(f"signed {member}.json", json.dumps(self.ok(f"site {member}", *arguments)))

    def settled(self, metrics: Mapping[int, Mapping[str, float]] | None = None, **changes: Any) -> None:
        """The next round, from opening to settlement; the sites say these metrics of its base."""
        number = str(self.open(**changes))
        for member in (1, 2):
            update = self.update(member, metrics=(metrics or {}).get(member, NO_METRICS))
            self.ok(f"site {member}", "round", "post", number, update, "--weight", "10")
        self.ok("aggregator", "round", "settle")
