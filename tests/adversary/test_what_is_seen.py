"""All that an outsider sees of a sealed round, byte by byte: what docs/privacy.md lists, and nothing else.

The outsider has the folder that an audit reads: every entry, every signed transaction, every blob. He has no key.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ledger.facts as facts
from ledger.age import read_age_secret
from ledger.audit.attest import examine
from ledger.audit.calls import CALLS, RELAY, selector
from ledger.audit.opening import handed_on
from ledger.chain.signing import sign_update
from ledger.chain.transactions import SignedTransaction
from ledger.cid import RAW, Cid
from ledger.entries import Entry, fact_data, words
from ledger.facts import Role
from ledger.manifest import Manifest, Reason, Score
from ledger.plan import Plan, TensorSpec
from ledger.sealing import Annex, Sealed, mask, open_key, readers, seal, write_annex, write_grant
from ledger.updates import MODEL_HEADER, Array, Layout, Place, decode, encode, update_header
from participant.seeds import Seed
from tests.world import PLAN, World, age_key, identity_of

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = {"bias": TensorSpec(dtype="F16", shape=[25]), "weight": TensorSpec(dtype="F32", shape=[20, 25])}
SEALED = PLAN.model_copy(update={"seal": "age", "tensors": SCHEMA})
NOTE = "record 4711 was left out"
EXAMPLES = 10
METRICS = {member: {"auroc-held-out": 0.5 + 0.0123456789 * member} for member in range(1, 6)}
WINDOW = 8  # bytes

# Where -> what stands there in clear (the names of fields), and what is sealed there.
SEEN: dict[str, tuple[str, str]] = {
    "entry `RoundOpened`": (
        "`round`, `aggregator`, `plan`, `base_round`, `base`, `deadline`, `grace`, `quorum`, `approvals`, "
        "`rejections`, `participants_attest`",
        "",
    ),
    "entry `UpdateRecorded`": ("`round`, `member`, `update`, `key_blob`, `weight`, `sender`", ""),
    "entry `RoundSettled`": ("`round`, `aggregator`, `model`, `manifest`, `counted`", ""),
    "entry `AttestationRecorded`": ("`round`, `member`, `approve`, `report`", ""),
    "entry `GrantRecorded`": ("`member`, `to`, `first`, `last`, `keys`", ""),
    "every entry": ("`index`, `block`, `time`, `transaction`", ""),
    "transaction": (
        "`chain_id`, `nonce`, `to`, `value`, `sender`, gas and fees; "
        "the call: fields of the entry, the head expected, signatures",
        "",
    ),
    "charter, plan, base model, model": ("all of it", ""),
    "manifest": (
        "`kind`, `settlement`, `chain_id`, `ledger`, `round`, `plan`, `base`, `counted`, `model`, `state`; "
        "`scores`, which are null unless the plan makes them public; "
        "of each update `member`, `update`, `weight`, `excluded`",
        "`annex`: the keys handed on, and the scores; for how many readers, and how long it is",
    ),
    "update": ("", "the update; its size, which plan and entry tell of an honest one but for its metrics"),
    "key blob": ("", "the update's key; for how many: the readers and the site"),
    "report": (
        "`kind`, `chain_id`, `ledger`, `round`, `plan`, `base`, `head`, `verdict`, `findings`",
        "",
    ),
    "grant": ("", "the keys granted; how many, and that they are for one"),
}


def in_clear(where: str) -> list[str]:
    return sorted(re.findall(r"`(\w+)`", SEEN[where][0]))


def values(seed: int) -> dict[str, Array]:
    chance = np.random.default_rng(seed)
    return {"bias": chance.normal(size=25).astype(np.float16), "weight": chance.normal(size=500).astype(np.float32)}


@dataclass(frozen=True)
class Seen:
    """A ledger with one sealed round, and what its sites know beside what is seen of it.

    Members 1 and 2 are honest, and 2 lets another carry its update; 3 adds a note to its header, 4 diverged, and 5
    seals to nobody. An auditor approves, and a later one is granted the round.
    """

    world: World
    updates: dict[int, bytes]
    sealed: dict[int, Sealed]

    @property
    def place(self) -> Place:
        return self.world.place()

    @cached_property
    def entries(self) -> list[tuple[Entry, bytes]]:
        """Those of the round, with the head before each."""
        shown = self.world.contract.shown()[0]
        heads = [self.world.contract.genesis.head(), *(head for _, head in shown)]
        first = next(at for at, (entry, _) in enumerate(shown) if isinstance(entry.fact, facts.RoundOpened))
        kept = [(entry, heads[at]) for at, (entry, _) in enumerate(shown) if at >= first]
        return [one for one in kept if not isinstance(one[0].fact, facts.MemberAdmitted | facts.CharterAccepted)]

    def fact(self, kind: type) -> Any:
        [found] = [entry.fact for entry, _ in self.entries if isinstance(entry.fact, kind)]
        return found

    @cached_property
    def manifest(self) -> Manifest:
        return Manifest.decode(self.world.store.get(self.fact(facts.RoundSettled).manifest))

    @property
    def annex(self) -> bytes:
        return base64.b64decode(self.manifest.annex or "")

    @property
    def grant(self) -> bytes:
        return self.world.store.get(self.fact(facts.GrantRecorded).keys)

    @property
    def report(self) -> bytes:
        return self.world.store.get(self.fact(facts.AttestationRecorded).report)

    def everything(self) -> Iterator[bytes]:
        """Every file of the folder that an audit reads, and what stands there in hexadecimal or base64."""
        for path in sorted(self.world.write().rglob("*")):
            if path.is_file():
                yield path.read_bytes()
        for line in (self.world.folder / "transactions.jsonl").read_text().splitlines():
            yield bytes.fromhex(json.loads(line)["raw"][2:])
        yield self.annex


def played(folder: Path) -> Seen:
    world = World(folder, participants=5, genesis=encode(MODEL_HEADER, SCHEMA, values(0)))
    world.aggregator.open(SEALED)
    known, place = world.contract.history().rounds[1], world.place()
    seeds = {member: Seed.of(str(identity_of(world.participants[member - 1])), known) for member in range(1, 6)}
    headers = {
        member: update_header(place, member, EXAMPLES, seed.witness(b""), METRICS[member])
        for member, seed in seeds.items()
    }
    diverged = values(4)
    diverged["weight"][7] = np.nan
    updates = {member: encode(headers[member], SCHEMA, values(member)) for member in (1, 2, 5)}
    updates[3] = encode({**headers[3], "note": NOTE}, SCHEMA, values(3))
    updates[4] = encode(headers[4], SCHEMA, diverged)
    sealed = {member: world.seal(member, updates[member]) for member in (1, 2, 3, 4)}
    sealed[5] = seal(updates[5], [age_key(identity_of(world.account("nobody")))])
    for member in (1, 3, 4, 5):
        world.post_sealed(member, sealed[member], EXAMPLES)
    cid, key_blob = world.store.put(sealed[2].update), world.store.put(sealed[2].key_blob or b"")
    signed = sign_update(
        world.participants[1], world.contract.genesis, 1, known.opening_head, cid, EXAMPLES, key_blob.digest
    )
    world.contract.relay_updates(world.aggregator.account, 1, [signed])
    world.chain.pass_time(SEALED.window + 1)
    world.settle()
    world.attest()
    later = world.account("later")
    world.contract.admit(world.governor, later.address, Role.AUDITOR, "Later")
    world.contract.accept(later, world.contract.genesis.charter, age_key(identity_of(later)))
    history = world.contract.history()
    masked = handed_on(history, list(history.rounds.values()), world.store, [identity_of(world.auditor)])
    grant = write_grant(history.genesis, masked, age_key(identity_of(later)))
    world.contract.grant(world.auditor, history.members[max(history.members)].id, 1, 1, world.store.put(grant))
    return Seen(world, updates, sealed)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    return played(tmp_path_factory.mktemp("seen"))


# ------------------------------------------------------------------------------------------ the table


def test_the_table_in_the_docs_is_this_one() -> None:
    page = (ROOT / "docs" / "privacy.md").read_text(encoding="utf-8")
    _, table, _ = page.split("<!-- seen -->")
    rows = [[cell.strip() for cell in line.strip("|").split(" |")] for line in table.strip().splitlines()[2:]]
    assert [(where, (clear, closed)) for where, clear, closed, *_ in rows] == list(SEEN.items())


def test_the_round_has_every_kind_of_outcome_that_the_others_look_at(seen: Seen) -> None:
    assert [row.excluded for row in seen.manifest.updates] == [
        None,
        None,
        Reason.BINDING,
        Reason.NONFINITE,
        Reason.UNOPENABLE,
    ]


# ------------------------------------------------------------------------------------------ the chain


def test_entries_have_the_listed_fields_and_the_chains_logs_have_nothing_more(seen: Seen) -> None:
    kinds = {type(entry.fact).__name__ for entry, _ in seen.entries}
    assert {f"entry `{kind}`" for kind in kinds} == {where for where in SEEN if where.startswith("entry")}
    for entry, _ in seen.entries:
        fields = [field.name for field in dataclasses.fields(entry.fact)]
        assert sorted(fields) == in_clear(f"entry `{type(entry.fact).__name__}`")
        assert sorted(field.name for field in dataclasses.fields(Entry) if field.name != "fact") == in_clear(
            "every entry"
        )
        logs = seen.world.chain.web3.eth.get_transaction_receipt(entry.transaction)["logs"]  # type: ignore[arg-type]
        assert [bytes(log["data"]) for log in logs] == [fact_data(entry.fact)]
        assert [[bytes(topic) for topic in log["topics"]] for log in logs] == [[facts.KINDS[type(entry.fact)]]]


def test_transactions_carry_the_entry_and_its_signatures_and_nothing_more(seen: Seen) -> None:
    signed = {}
    seen.world.write()
    for line in (seen.world.folder / "transactions.jsonl").read_text().splitlines():
        transaction = SignedTransaction.parse(bytes.fromhex(json.loads(line)["raw"][2:]))
        signed[transaction.hash] = transaction
    named = [field.name for field in dataclasses.fields(SignedTransaction) if field.name not in ("hash", "data")]
    assert sorted(named) == in_clear("transaction")
    for entry, head in seen.entries:
        transaction = signed[entry.transaction]
        assert (transaction.to, transaction.value) == (seen.world.contract.genesis.ledger, 0)
        assert transaction.data in called(entry, head, transaction.data[-64:])


def called(entry: Entry, head: bytes, signature: bytes) -> list[bytes]:
    """The calls that record an entry: the direct one, and the one that carries it with its member's signature."""
    function, arguments = CALLS[type(entry.fact)]
    known = {"expected_head": head, "window": SEALED.window.to_bytes(32, "big")}
    direct = [selector(function), *(known.get(name) or words(entry.fact, name) for name in arguments)]
    if not isinstance(entry.fact, facts.UpdateRecorded):
        return [b"".join(direct)]
    where, count = (number.to_bytes(32, "big") for number in (64, 1))
    carried = [selector(RELAY), words(entry.fact, "round"), where, count]
    return [b"".join(direct), b"".join([*carried, words(entry.fact, "update", "key_blob", "weight"), signature])]


# ------------------------------------------------------------------------------------------ the store


def test_the_store_has_the_listed_blobs_and_no_other(seen: Seen) -> None:
    settled, opened = seen.fact(facts.RoundSettled), seen.fact(facts.RoundOpened)
    listed = [seen.world.contract.genesis.charter, opened.plan, opened.base, settled.model, settled.manifest]
    listed += [seen.fact(facts.AttestationRecorded).report, seen.fact(facts.GrantRecorded).keys]
    for update in seen.world.contract.history().rounds[1].updates.values():
        listed += [update.update, Cid(update.key_blob or b"", RAW)]
    stored = [path.name for path in seen.world.store.folder.rglob("*") if path.is_file()]
    assert sorted(stored) == sorted(str(cid) for cid in listed)


def test_plan_base_and_model_are_in_clear_and_are_what_anybody_knows(seen: Seen) -> None:
    get, opened = seen.world.store.get, seen.fact(facts.RoundOpened)
    assert Plan.decode(get(opened.plan)) == SEALED
    for cid in (opened.base, seen.fact(facts.RoundSettled).model):
        decoded = decode(get(cid))
        assert (decoded.header, decoded.schema) == (MODEL_HEADER, SCHEMA)


def test_the_manifest_has_the_listed_fields_and_the_annex_is_opaque(seen: Seen) -> None:
    document = json.loads(seen.world.store.get(seen.fact(facts.RoundSettled).manifest))
    rows = {name for row in document.pop("updates") for name in row}
    annex = document.pop("annex")
    assert sorted([*document, *rows]) == in_clear("manifest")
    assert base64.b64decode(annex, validate=True) == seen.annex
    known = seen.world.contract.history().rounds[1]
    opened = [seen.sealed[member] for member in (1, 2, 3, 4)]  # whatever the reason: their keys were found
    own = [identity_of(seen.world.auditor)]
    masked = {
        number: mask(open_key(one.key_blob or b"", own) or "", one.key_blob or b"")
        for number, one in enumerate(opened, 1)
    }
    parsed = AgeFile.parse(seen.annex)
    assert parsed.recipients == len(readers(known)) == 2
    scores = {member: Score(metrics=METRICS[member]) for member in (1, 2)}
    annex = write_annex(seen.place, Annex(masked, scores), readers(known).values())
    assert parsed.size == AgeFile.parse(base64.b64decode(annex)).size  # of which members, the manifest's reasons tell


def test_a_sealed_update_tells_its_size_and_that_one_key_opens_it(seen: Seen) -> None:
    layout = Layout(SCHEMA)
    for member, one in seen.sealed.items():
        parsed = AgeFile.parse(one.update)
        assert parsed.recipients == 1
        assert parsed.size == len(seen.updates[member])
        honest = len(layout.head(update_header(seen.place, member, EXAMPLES, metrics=METRICS[member]))) + layout.size
        assert (parsed.size == honest) == (member != 3)


def test_a_key_blob_tells_for_how_many_it_is(seen: Seen) -> None:
    known = seen.world.contract.history().rounds[1]
    for member, one in seen.sealed.items():
        parsed = AgeFile.parse(one.key_blob or b"")
        assert parsed.recipients == (len(readers(known)) + 1 if member != 5 else 1)
        assert parsed.size == len("AGE-SECRET-KEY-1") + 58


def test_a_grant_tells_how_many_keys_it_has_and_that_it_is_for_one(seen: Seen) -> None:
    assert AgeFile.parse(seen.grant).recipients == 1


def test_no_two_sealed_files_have_anything_in_common_that_tells_who_opens_them(seen: Seen) -> None:
    blobs = [blob for one in seen.sealed.values() for blob in (one.update, one.key_blob or b"")]
    shares = [share for blob in [*blobs, seen.annex, seen.grant] for share in AgeFile.parse(blob).shares]
    assert len(set(shares)) == len(shares) == 5 + (4 * 3 + 1) + 2 + 1
    published = {member.age_key for member in seen.world.contract.history().members.values()}
    assert not published & set(shares)


@dataclass(frozen=True)
class AgeFile:
    """What the bytes of an age file say to somebody without a key (age-encryption.org/v1), read by hand.

    Attributes:
        shares: The fresh public key of each recipient's stanza.
        size: Bytes of what is sealed.
    """

    shares: list[bytes]
    size: int

    @property
    def recipients(self) -> int:
        return len(self.shares)

    @classmethod
    def parse(cls, blob: bytes) -> AgeFile:
        """Read it; anything in it that is not accounted for fails."""
        found = re.fullmatch(
            rb"age-encryption\.org/v1\n(?P<stanzas>(?:-> [^\n]*\n(?:[A-Za-z0-9+/]{64}\n)*[A-Za-z0-9+/]{0,63}\n)+)"
            rb"--- [A-Za-z0-9+/]{43}\n(?P<payload>.{32,})",
            blob,
            re.DOTALL,
        )
        assert found is not None
        shares = []
        for stanza in found["stanzas"].decode().removeprefix("-> ").split("\n-> "):
            arguments, *body = stanza.strip("\n").split("\n")
            kind, *rest = arguments.split(" ")
            if kind == "X25519":
                assert (len(rest), len(_unpadded(rest[0])), len(_unpadded("".join(body)))) == (1, 32, 32)
                shares.append(_unpadded(rest[0]))
            else:
                assert kind.endswith("-grease")  # random, from whoever sealed it
        sealed = len(found["payload"]) - 16
        return cls(shares, sealed - 16 * -(-sealed // ((1 << 16) + 16)))


def _unpadded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


# -------------------------------------------------------------------------------------------- no more


def windows(text: bytes, size: int = WINDOW) -> set[bytes]:
    return {text[at : at + size] for at in range(len(text) - size + 1)}


def secrets(seen: Seen, members: Iterable[int]) -> set[bytes]:
    """Every 8 bytes of updates, and of what opens them, that an outsider does not know without seeing anything.

    He writes the header himself, but for its witness and what does not belong there, from plan and entries. Of what is
    written in hexadecimal or Bech32, 8 bytes of what it says: 8 letters of it may stand somewhere by chance.
    """
    found, known = set[bytes](), set[bytes]()
    for member in members:
        update = seen.updates[member]
        end, witness = 8 + int.from_bytes(update[:8], "little"), decode(update).header["witness"]
        found |= windows(update[:end].replace(witness.encode(), b"")) | windows(update[end:])
        found |= windows(bytes.fromhex(witness))
        known |= windows(
            Layout(SCHEMA).head(update_header(seen.place, member, EXAMPLES, witness="")).rstrip() + b" " * 8
        )
        owner = identity_of(seen.world.participants[member - 1] if member != 5 else seen.world.account("nobody"))
        key = open_key(seen.sealed[member].key_blob or b"", [owner])
        assert key is not None
        found |= windows(key.removeprefix("AGE-SECRET-KEY-1").encode()) | windows(read_age_secret(key))
    return found - known


def leaked(secret: set[bytes], visible: Iterable[bytes]) -> list[bytes]:
    """Which of these stand somewhere, as they are or in hexadecimal."""
    as_hex = {one.hex().encode() for one in secret}
    found = set[bytes]()
    for blob in visible:
        found |= secret & windows(blob) | as_hex & windows(blob, 2 * WINDOW)
    return sorted(found)


def test_no_8_bytes_of_any_update_its_witness_its_header_or_its_key_stand_anywhere(seen: Seen) -> None:
    secret = secrets(seen, seen.updates)
    assert len(secret) > 5 * (2 * 25 + 4 * 500)
    assert windows(NOTE.encode()) <= secret
    assert windows(b"auroc-held-out") | windows(b"0.5123456789") <= secret
    assert leaked(secret, (blob for blob in seen.everything() if blob != seen.report)) == []


def test_the_search_finds_an_update_that_a_site_did_not_seal(seen: Seen, tmp_path: Path) -> None:
    world = World(tmp_path, genesis=encode(MODEL_HEADER, SCHEMA, values(0)))
    secret = secrets(seen, [1])
    world.store.put(seen.updates[1])
    files = [path for path in world.write().rglob("*") if path.is_file()]
    assert set(leaked(secret, (path.read_bytes() for path in files))) >= windows(
        decode(seen.updates[1]).tensors["weight"].tobytes()
    )
    assert leaked(secret, [json.dumps({"witness": decode(seen.updates[1]).header["witness"]}).encode()])
    assert leaked(secret, [seen.updates[1].hex().encode()])


def test_a_report_has_the_listed_fields_and_no_measures(seen: Seen) -> None:
    assert sorted(json.loads(seen.report)) == in_clear("report")


def test_a_report_says_no_more_of_a_sealed_update_than_its_reason(seen: Seen) -> None:
    assert leaked(secrets(seen, seen.updates), [seen.report]) == []
    texts = [text for text in json.loads(seen.report)["findings"] if "excluded as" in text]
    assert len(texts) == 3
    assert not [text for text in texts if "tensor" in text or "note" in text]


def test_a_report_says_how_good_a_model_is_only_where_the_plan_has_that_public(seen: Seen) -> None:
    assert not SEALED.public_quality
    examined = examine(
        seen.world.contract.history(), seen.world.store, 1, {"auc": 0.5}, [identity_of(seen.world.auditor)]
    )
    assert "quality" not in json.loads(examined.report)
