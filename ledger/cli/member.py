"""``fedledger member``: who takes part, in which roles, with which account."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ledger.cli.connection import Connection, connected
from ledger.cli.options import ADDRESS
from ledger.cli.output import address, document, facts, recorded, table

if TYPE_CHECKING:
    from ledger.facts import Role
    from ledger.history import History, Member

NOBODY = "0x" + "00" * 20
MEMBER = click.IntRange(1, (1 << 16) - 1)
ROLES = click.option(
    "--role",
    "roles",
    type=click.Choice(["participant", "aggregator", "auditor"]),
    multiple=True,
    required=True,
    help="What the member may do; repeat it for several roles.",
)


@click.group()
def member() -> None:
    """See members; admit and suspend them; move a member to another account."""


@member.command("list")
@connected()
def list_(connection: Connection) -> None:
    """List all members.

    Exit status: 0 done; 1 what the node shows is not the ledger; 2 wrong use; 3 the node cannot be reached.
    """
    history = connection.history()
    described = [_described(history, one) for one in history.members.values()]
    if connection.as_json:
        document({"members": described})
        return
    table(
        ["id", "name", "roles", "charter", "account"],
        [
            (
                one["member"],
                one["name"],
                ", ".join(one["roles"]) or "suspended",
                _acceptance(history, one),
                address(one["account"]),
            )
            for one in described
        ],
    )


@member.command()
@click.argument("id", type=MEMBER)
@connected()
def show(connection: Connection, id: int) -> None:  # noqa: A002
    """Show the member with this ID: roles, accounts, acceptance of the charter, age key, updates.

    Exit status: 0 done; 1 what the node shows is not the ledger; 2 wrong use; 3 the node cannot be reached.
    """
    history = connection.history()
    one = _described(history, _known(history, id))
    if connection.as_json:
        document(one)
        return
    facts(
        [
            ("member", one["member"]),
            ("name", one["name"]),
            ("roles", ", ".join(one["roles"]) or "suspended"),
            ("charter", _acceptance(history, one)),
            ("age key", one["age_key"]),
            ("account", address(one["account"])),
            ("offered to", address(one["offered"]) if one["offered"] else None),
            ("before", ", ".join(map(address, one["accounts"][:-1])) or None),
            ("updates in", "rounds " + ", ".join(map(str, one["updates"])) if one["updates"] else "no round"),
        ]
    )


@member.command()
@click.argument("account", metavar="ADDRESS", type=ADDRESS)
@click.option("--name", required=True, help="What people call it: 1 to 32 bytes of UTF-8.")
@ROLES
@connected(writes=True)
def admit(connection: Connection, account: str, name: str, roles: tuple[str, ...]) -> None:
    """Admit a member that acts with the account ADDRESS; it takes part once it has accepted the charter.

    Exit status: 0 done; 1 the ledger refuses; 2 wrong use; 3 the node cannot be reached.
    """
    from ledger.entries import name_bytes, name_text
    from ledger.errors import UsageError

    try:
        if not name.isprintable() or name_text(name_bytes(name)) != name:
            raise ValueError(f"a member's name is written in letters that can be seen, not {name!r}")
    except ValueError as error:
        raise UsageError(f"--name: {error}") from None
    contract, governor = connection.contract, connection.account
    connection.confirm(f"Admit {account} as {name}, {' and '.join(roles)}?")
    note = f"{name} joins now: fedledger join"
    recorded(connection, contract.admit(governor, account, _role(roles), name), note)


@member.command("roles")
@click.argument("id", type=MEMBER)
@ROLES
@connected(writes=True)
def roles_(connection: Connection, id: int, roles: tuple[str, ...]) -> None:  # noqa: A002
    """Give the member with this ID these roles and no others, for rounds opened later.

    Exit status: 0 done; 1 the ledger refuses; 2 wrong use; 3 the node cannot be reached.
    """
    contract, governor = connection.contract, connection.account
    name = _known(connection.history(), id).name
    connection.confirm(f"Make member {id} ({name}) {' and '.join(roles)}, and nothing else, for rounds opened later?")
    recorded(connection, contract.change_roles(governor, id, _role(roles)))


@member.command()
@click.argument("id", type=MEMBER)
@connected(writes=True)
def suspend(connection: Connection, id: int) -> None:  # noqa: A002
    """Suspend the member with this ID: it takes no part in rounds opened later, until it gets roles again.

    Exit status: 0 done; 1 the ledger refuses; 2 wrong use; 3 the node cannot be reached.
    """
    contract, governor = connection.contract, connection.account
    name = _known(connection.history(), id).name
    connection.confirm(f"Suspend member {id} ({name}) from rounds opened later?")
    recorded(connection, contract.change_roles(governor, id, _role([])))


@member.command()
@click.argument("id", type=MEMBER)
@click.argument("account", metavar="ADDRESS", type=ADDRESS)
@connected(writes=True)
def replace(connection: Connection, id: int, account: str) -> None:  # noqa: A002
    """As the governor, give the member with this ID the account ADDRESS, because its own is lost.

    Exit status: 0 done; 1 the ledger refuses; 2 wrong use; 3 the node cannot be reached.
    """
    contract, governor = connection.contract, connection.account
    name = _known(connection.history(), id).name
    connection.confirm(f"Let {account} act for member {id} ({name}) in rounds opened later?")
    recorded(connection, contract.replace_account(governor, id, account))


@member.command()
@click.argument("account", metavar="ADDRESS", type=ADDRESS)
@connected(writes=True)
def offer(connection: Connection, account: str) -> None:
    """Offer your place as a member to another account of yours, ADDRESS, which must take it.

    The zero address takes the offer back.

    Exit status: 0 done; 1 the ledger refuses; 2 wrong use; 3 the node cannot be reached.
    """
    contract, present = connection.contract, connection.account
    known = connection.history().member_by_account(present.address)
    connection.confirm("Withdraw the offer of your place?" if account == NOBODY else f"Offer your place to {account}?")
    note = f"{account} can take it now: fedledger member take {known.id}" if known and account != NOBODY else ""
    recorded(connection, contract.offer_account(present, account), note)


@member.command()
@click.argument("id", type=MEMBER)
@connected(writes=True)
def take(connection: Connection, id: int) -> None:  # noqa: A002
    """Take the place of the member with this ID, which its account offered; it holds for rounds opened later.

    Exit status: 0 done; 1 the ledger refuses; 2 wrong use; 3 the node cannot be reached.
    """
    contract, account = connection.contract, connection.account
    name = _known(connection.history(), id).name
    connection.confirm(f"Act as member {id} ({name}) with {account.address} in rounds opened later?")
    recorded(connection, contract.take_account(account, id))


def _known(history: History, member_id: int) -> Member:
    from ledger.errors import UsageError

    if (found := history.members.get(member_id)) is None:
        raise UsageError(f"there is no member {member_id}: see `fedledger member list`")
    return found


def _role(names: Any) -> Role:
    from ledger.facts import Role

    roles = Role(0)
    for name in names:
        roles |= Role[name.upper()]
    return roles


def _described(history: History, one: Member) -> dict[str, Any]:
    from ledger.age import show_age_key

    account = history.accounts[one.account]
    return {
        "member": one.id,
        "name": one.name,
        "roles": [role.name.lower() for role in account.roles if role.name],
        "accepted": account.accepted,
        "age_key": show_age_key(one.age_key) if one.age_key else None,
        "account": one.account,
        "accounts": one.accounts,
        "offered": one.offered if one.offered != NOBODY else None,
        "updates": [number for number, known in history.rounds.items() if one.id in known.updates],
    }


def _acceptance(history: History, one: dict[str, Any]) -> str:
    if one["accepted"] == history.charter_version:
        return f"accepted (version {one['accepted']})"
    return f"only version {one['accepted']} accepted" if one["accepted"] else "not accepted"
