"""Read the nodes of a UnixFS tree that somebody else may have made. Pure; what cannot be read is a ValueError."""

from __future__ import annotations

from ledger.cid import Cid


def read_file_node(block: bytes) -> tuple[int, list[Cid]]:
    """How many bytes of a file a node claims to have below it, and its children, as `ledger.cid.parent` writes them."""
    links, unixfs = _read_node(block)
    if unixfs[:3] != b"\x08\x02\x18":
        raise ValueError("a node that is no file's")
    size, _ = read_varint(unixfs, 3)
    return size, [cid for _, cid in links]


def read_directory(block: bytes) -> dict[str, Cid]:
    """What a directory holds, by name, as `ledger.cid.directory` writes it."""
    links, unixfs = _read_node(block)
    if unixfs != b"\x08\x01":
        raise ValueError("a node that is no directory")
    names = {}
    for raw, cid in links:
        name = raw.decode("utf-8")
        if name in names or name in ("", ".", "..") or "/" in name or not name.isprintable():
            raise ValueError(f"a directory with the name {name!r} in it, twice or not fit for a file")
        names[name] = cid
    return names


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The number that starts at `at`, below 2**63, and where it ends."""
    number = 0
    for place, byte in enumerate(data[at : at + 9]):
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            if byte == 0 and place > 0:
                break
            return number, at + place + 1
    raise ValueError("a number that is cut off, too large, or longer than it need be")


def _read_node(block: bytes) -> tuple[list[tuple[bytes, Cid]], bytes]:
    """A dag-pb node's links, each with its name, and its data."""
    links, at = [], 0
    while at < len(block) and block[at] == 0x12:
        link, at = _read_field(block, at, 0x12)
        cid, end = _read_field(link, 0, 0x0A)
        name, _ = _read_field(link, end, 0x12)
        if cid[:1] != b"\x01" or cid[2:4] != b"\x12\x20":
            raise ValueError("a link to something else than a CIDv1 with sha2-256")
        links.append((name, Cid(cid[4:], cid[1])))
    data, at = _read_field(block, at, 0x0A)
    if at != len(block):
        raise ValueError("a node with more in it than links and data")
    return links, data


def _read_field(data: bytes, at: int, tag: int) -> tuple[bytes, int]:
    """The bytes of the field with that tag that starts at `at`, and where it ends."""
    if data[at : at + 1] != bytes((tag,)):
        raise ValueError("a field that does not belong there")
    size, start = read_varint(data, at + 1)
    if size > len(data) - start:
        raise ValueError("a field that is cut off")
    return data[start : start + size], start + size
