"""web3: connect, sign, call the contract, read its entries; and the embedded chain."""
