"""fedledger: everything that reads or writes a ledger. No torch in here, ever."""

__version__ = "0.1.0"
