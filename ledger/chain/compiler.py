"""The contract compiled from its source, which the shipped artifact carries (extra ``contracts``)."""

from __future__ import annotations

from pathlib import Path
from subprocess import SubprocessError
from typing import Any

from ledger.chain.artifact import artifact
from ledger.errors import UnavailableError, UsageError

SOLC_VERSION = "0.8.30"
_FILE, _CONTRACT = "FederatedLedger.sol", "FederatedLedger"


def native_compiler() -> Path:
    """The compiler that py-solc-x manages, fetched if need be.

    Raises:
        UsageError: If py-solc-x is not installed.
        UnavailableError: If the compiler is not there and cannot be fetched.
    """
    try:
        import requests
        import solcx
        from solcx.exceptions import SolcError, SolcNotInstalled
    except ModuleNotFoundError:
        raise UsageError("compiling the contract needs py-solc-x: pip install 'fedledger[contracts]'") from None
    try:
        return Path(solcx.install.get_executable(SOLC_VERSION))
    except SolcNotInstalled:
        pass
    try:
        solcx.install_solc(SOLC_VERSION)
        return Path(solcx.install.get_executable(SOLC_VERSION))
    except (requests.RequestException, SolcError, OSError):
        raise UnavailableError(
            f"solc {SOLC_VERSION} is not here and cannot be fetched: put it as solc-v{SOLC_VERSION} into a folder, and "
            "name that folder in SOLCX_BINARY_PATH"
        ) from None


def compile_contract(sources: dict[str, Any], compiler: Path) -> dict[str, Any]:
    """What a compiler makes of the contract.

    Args:
        sources: The compiler's standard JSON input: sources and settings.
        compiler: Its program.

    Returns:
        The contract's part of the compiler's output.

    Raises:
        UnavailableError: If the compiler does not compile it.
    """
    import solcx
    from solcx.exceptions import SolcError

    try:
        output = solcx.compile_standard(sources, solc_binary=compiler)
        compiled: dict[str, Any] = output["contracts"][_FILE][_CONTRACT]
    except (SolcError, OSError, SubprocessError, ValueError, LookupError) as error:
        raise UnavailableError(f"{compiler} does not compile the contract ({error}): use solc {SOLC_VERSION}") from None
    return compiled


def compile_runtime() -> bytes:
    """The code that stands on a chain, compiled from the shipped source, here and now.

    Raises:
        UsageError: If py-solc-x is not installed.
        UnavailableError: If there is no compiler.
    """
    compiled = compile_contract(artifact().source, native_compiler())
    return bytes.fromhex(compiled["evm"]["deployedBytecode"]["object"])
