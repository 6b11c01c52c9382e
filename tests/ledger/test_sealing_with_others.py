"""Sealed rounds with age as others implement it: either side opens what the other has sealed, and the audit holds.

The other side is ``age-encryption`` (TypeScript), and the masks of annex and grant are HKDF written out with `hmac`.
"""

from __future__ import annotations

import base64
import hmac
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyrage.x25519 import Identity

from ledger.age import show_age_key, show_age_secret
from ledger.aggregator import Proposal
from ledger.audit.checks import audit
from ledger.audit.evidence import read_folder
from ledger.audit.opening import handed_on
from ledger.audit.origin import Claims
from ledger.audit.report import Verdict
from ledger.documents import canonical
from ledger.facts import Role
from ledger.manifest import Manifest
from ledger.sealing import Sealed, mask, open_key, readers, seal_for, write_grant
from ledger.settlement import settle
from tests import age_js
from tests.world import SEALED, World, age_key, identity_of, tensors

NOBODY_ELSE = "no identity matched"


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.aggregator.open(SEALED)
    return made


def update(world: World, member: int) -> bytes:
    return world.update(member, tensors(member))


def sealed_by_us(world: World, member: int) -> Sealed:
    """An update as `fedledger participate` seals it."""
    own = age_key(identity_of(world.participants[member - 1]))
    return seal_for(world.contract.history().rounds[1], update(world, member), own)


def sealed_by_others(world: World, member: int) -> Sealed:
    """The same with the other implementation: the update to a fresh identity, that to the readers and the site."""
    identity = Identity.generate()
    own = age_key(identity_of(world.participants[member - 1]))
    to = [show_age_key(key) for key in [*readers(world.contract.history().rounds[1]).values(), own]]
    blob = age_js.seal(update(world, member), [str(identity.to_public())])
    return Sealed(blob, age_js.seal(str(identity).encode(), to))


def settled(world: World, ours: tuple[int, ...] = (), theirs: tuple[int, ...] = ()) -> dict[int, Sealed]:
    sealed = {member: sealed_by_us(world, member) for member in ours}
    sealed |= {member: sealed_by_others(world, member) for member in theirs}
    for member, one in sorted(sealed.items()):
        world.post_sealed(member, one)
    world.chain.pass_time(SEALED.window + 1)
    world.settle()
    return sealed


def manifest_of(world: World) -> Manifest:
    ended = world.contract.history().rounds[1].ended
    assert ended is not None
    assert ended.manifest is not None
    return Manifest.decode(world.store.get(ended.manifest))


def verdict(world: World, who: Identity) -> Verdict:
    return audit(read_folder(world.write()), Claims(head=world.contract.head()), identities=(who,)).verdict


def unmasked(masked: str, key_blob: bytes) -> str:
    """The identity behind a mask: exclusive or with HKDF-SHA256 (RFC 5869) of the key blob."""
    extracted = hmac.digest(bytes(32), key_blob, "sha256")
    stream = hmac.digest(extracted, b"fedledger: an identity in an annex or a grant\x01", "sha256")
    return show_age_secret(bytes(one ^ other for one, other in zip(bytes.fromhex(masked), stream, strict=True)))


# ------------------------------------------------------------------------- what we seal, others open


def test_an_update_opens_for_aggregator_auditor_and_its_own_site_and_for_nobody_else(world: World) -> None:
    sealed = sealed_by_us(world, 1)
    assert sealed.key_blob is not None
    own, others = identity_of(world.participants[0]), [identity_of(one) for one in world.participants[1:]]
    for who in (identity_of(world.aggregator.account), identity_of(world.auditor), own):
        key = age_js.open(sealed.key_blob, str(who)).decode()
        assert age_js.open(sealed.update, key) == update(world, 1)
        with pytest.raises(age_js.NotOpened, match=NOBODY_ELSE):
            age_js.open(sealed.update, str(who))
    for who in (*others, identity_of(world.governor), Identity.generate()):
        for blob in (sealed.key_blob, sealed.update):
            with pytest.raises(age_js.NotOpened, match=NOBODY_ELSE):
                age_js.open(blob, str(who))


def test_the_key_of_one_update_opens_no_other(world: World) -> None:
    first, second = sealed_by_us(world, 1), sealed_by_us(world, 2)
    key = age_js.open(first.key_blob or b"", str(identity_of(world.auditor))).decode()
    for blob in (second.update, second.key_blob or b""):
        with pytest.raises(age_js.NotOpened, match=NOBODY_ELSE):
            age_js.open(blob, key)


def test_the_annex_opens_for_the_readers_alone_and_leads_to_every_update(world: World) -> None:
    sealed = settled(world, ours=(1, 2, 3))
    annex = base64.b64decode(manifest_of(world).annex or "")
    for who in (identity_of(world.aggregator.account), identity_of(world.auditor)):
        document = json.loads(age_js.open(annex, str(who)))
        assert document | {"keys": None} == {"kind": "annex", **world.place().document(), "keys": None, "scores": {}}
        assert sorted(document["keys"]) == ["1", "2", "3"]
        for member, one in sealed.items():
            key = unmasked(document["keys"][str(member)], one.key_blob or b"")
            assert age_js.open(one.update, key) == update(world, member)
    for stranger in (identity_of(world.participants[0]), Identity.generate()):
        with pytest.raises(age_js.NotOpened, match=NOBODY_ELSE):
            age_js.open(annex, str(stranger))


def later_auditor(world: World) -> Identity:
    later = world.account("later")
    world.contract.admit(world.governor, later.address, Role.AUDITOR, "Later")
    world.contract.accept(later, world.contract.genesis.charter, age_key(identity_of(later)))
    return identity_of(later)


def test_a_grant_opens_for_whom_it_was_made_alone_and_leads_to_every_update(world: World) -> None:
    sealed, later = settled(world, ours=(1, 2)), later_auditor(world)
    history, giver = world.contract.history(), identity_of(world.auditor)
    masked = handed_on(history, list(history.rounds.values()), world.store, [giver])
    grant = write_grant(history.genesis, masked, age_key(later))
    document = json.loads(age_js.open(grant, str(later)))
    assert document | {"keys": None} == {
        "kind": "grant",
        "chain_id": history.genesis.chain_id,
        "ledger": history.genesis.ledger,
        "keys": None,
    }
    for member, one in sealed.items():
        key = unmasked(document["keys"]["1"][str(member)], one.key_blob or b"")
        assert age_js.open(one.update, key) == update(world, member)
    for stranger in (giver, Identity.generate()):
        with pytest.raises(age_js.NotOpened, match=NOBODY_ELSE):
            age_js.open(grant, str(stranger))


# ------------------------------------------------------------------------- what others seal, we count


@pytest.mark.parametrize("theirs", [(3,), (1, 2, 3)], ids=["among ours", "alone"])
def test_sites_that_seal_with_another_implementation_are_counted_and_verified(
    world: World, theirs: tuple[int, ...]
) -> None:
    settled(world, ours=tuple({1, 2, 3} - set(theirs)), theirs=theirs)
    assert [(row.weight, row.excluded) for row in manifest_of(world).updates] == [(10, None)] * 3
    for who in (identity_of(world.auditor), identity_of(world.aggregator.account)):
        assert verdict(world, who) is Verdict.VERIFIED


def test_an_annex_and_a_grant_that_others_wrote_hand_the_keys_on(world: World) -> None:
    history, own = world.contract.history(), [identity_of(world.aggregator.account)]
    sealed = {member: sealed_by_others(world, member) for member in (1, 2)}
    for member, one in sealed.items():
        world.post_sealed(member, one)
    known = world.contract.history().rounds[1]
    keys = {member: open_key(one.key_blob or b"", own) or "" for member, one in sealed.items()}
    masked = {str(member): mask(key, sealed[member].key_blob or b"").hex() for member, key in keys.items()}

    def by_others(document: dict[str, Any], to: list[bytes]) -> bytes:
        return age_js.seal(canonical(document), [show_age_key(key) for key in to])

    document = {"kind": "annex", **world.place().document(), "keys": masked, "scores": {}}
    annex = base64.b64encode(by_others(document, list(readers(known).values()))).decode()
    settlement = settle(world.place(), SEALED, known.updates.values(), world.store, (), keys=keys)
    settlement = replace(settlement, manifest=settlement.manifest.model_copy(update={"annex": annex}))
    world.chain.pass_time(SEALED.window + 1)
    world.aggregator.publish(Proposal(1, world.contract.head(), settlement))
    assert verdict(world, identity_of(world.auditor)) is Verdict.VERIFIED

    later = later_auditor(world)
    assert verdict(world, later) is Verdict.INCOMPLETE
    place = {"chain_id": history.genesis.chain_id, "ledger": history.genesis.ledger}
    grant = by_others({"kind": "grant", **place, "keys": {"1": masked}}, [age_key(later)])
    world.contract.grant(world.auditor, 6, 1, 1, world.store.put(grant))
    assert verdict(world, later) is Verdict.VERIFIED
