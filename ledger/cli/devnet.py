"""``fedledger devnet``."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import click

from ledger.cli.options import PATH


@click.command()
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8545, show_default=True, help="The port; 0 for a free one."
)
@click.option("--bind", metavar="ADDRESS", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--unsafe-bind", is_flag=True, help="Allow --bind to an address that other machines reach.")
@click.option(
    "--state",
    type=PATH,
    metavar="DIR",
    default=Path("~/.fedledger/devnet"),
    envvar="FEDLEDGER_DEVNET_STATE",
    show_default=True,
    show_envvar=True,
    help="Where the chain is kept.",
)
@click.option("--fresh", is_flag=True, help="Delete the chain that is kept there, and begin a new one.")
def devnet(port: int, bind: str, unsafe_bind: bool, state: Path, fresh: bool) -> None:
    """Run a chain on this machine for trying things out, until it is stopped (Ctrl-C).

    Its blocks are final at once and survive a restart. It gives ether to whoever asks for its balance: nothing on it is
    of worth. Anyone who reaches it can use it, so that it listens on this machine alone.

    Exit status: 0 stopped; 2 wrong use; 3 the port is taken, or the state folder is in use or damaged.
    """
    from ledger.chain.rpc_server import RpcServer, is_loopback
    from ledger.cli.connection import state_folder
    from ledger.errors import UnavailableError, UsageError

    if not (unsafe_bind or is_loopback(bind)):
        raise UsageError(
            f"{bind} is not an address of this machine alone: use 127.0.0.1, or say --unsafe-bind, and know that "
            "anyone who reaches it can use it"
        )
    try:
        from ledger.chain.devnet import CHAIN_ID, DevnetChain
        from ledger.chain.devnet_rpc import DevnetRpc
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        raise UsageError(f"the devnet needs {missing}: pip install 'fedledger[devnet]'") from None

    folder = state_folder(state)
    try:
        server = RpcServer(bind, port, lambda method, parameters: rpc(method, parameters))
    except OSError as error:
        raise UnavailableError(
            f"the devnet cannot listen on {bind}, port {port} ({error.strerror}): name another with --port or --bind"
        ) from None
    with server:
        rpc = DevnetRpc(DevnetChain(folder, fresh))  # not before it can listen: --fresh deletes a chain
        stopped = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopped.set())
        threading.Thread(target=server.serve_forever, daemon=True).start()
        click.echo(f"The devnet listens on {server.url}: chain id {CHAIN_ID}, state in {folder}")
        click.echo("Its ether is of no worth, and whoever asks for a balance gets some. Ctrl-C stops it.")
        stopped.wait()
        server.shutdown()
    rpc.close()
