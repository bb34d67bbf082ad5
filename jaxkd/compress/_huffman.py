"""Huffman codes of small alphabets, on the host.

There is no loop over the symbols: they are coded in chunks whose lengths in bits are
stored, so that all chunks are decoded side by side. The code is canonical: the lengths
of its words say all.
"""

import heapq

import numpy as np

#: The most symbols of an alphabet, and bits of a word.
MAX_SYMBOLS, MAX_LENGTH = 1024, 15
_CHUNK = 2048


class CodingError(ValueError):
    """Bytes which are no file of this library, or not any more, and why."""


def encode(symbols: np.ndarray) -> bytes:
    """Codes symbols with a code made for them.

    Args:
        symbols: integers in ``[0, 1024)``, in a row.

    Returns:
        The numbers of words and of symbols (2 and 4 bytes), the lengths of the words (4
        bits each), the bits of each chunk (2 bytes each), and the bits.
    """
    lengths = _word_lengths(np.bincount(symbols))
    words, sizes = _words(lengths)[symbols], lengths[symbols].astype(np.int64)
    ends = np.cumsum(sizes)
    total = int(ends[-1]) if len(ends) else 0
    bits = np.zeros(total, np.uint8)
    for i in range(int(sizes.max(initial=0))):
        long = sizes > i
        bits[(ends - sizes)[long] + i] = (words[long] >> (sizes[long] - 1 - i)) & 1
    chunks = np.add.reduceat(sizes, np.arange(0, len(sizes), _CHUNK)) if total else []
    padded = np.append(lengths, 0) if len(lengths) % 2 else lengths
    nibbles = (padded[::2] | padded[1::2] << 4).astype(np.uint8)
    return (
        np.uint16(len(lengths)).astype("<u2").tobytes()
        + np.uint32(len(symbols)).astype("<u4").tobytes()
        + nibbles.tobytes()
        + np.asarray(chunks, "<u2").tobytes()
        + np.packbits(bits).tobytes()
    )


def decode(data: bytes) -> np.ndarray:
    """Undoes :func:`encode`; whatever the bytes, no more memory than 100 times theirs.

    Args:
        data: what it returned.

    Returns:
        The symbols, int64.

    Raises:
        CodingError: if the bytes are no such code.
    """
    lengths, count, rest = _read_head(data)
    chunks = -(-count // _CHUNK)
    sizes = np.frombuffer(rest[: 2 * chunks], "<u2").astype(np.int64)
    packed = np.frombuffer(rest[2 * chunks :], np.uint8)
    ends = np.cumsum(sizes)
    total = int(ends[-1]) if chunks else 0
    if len(sizes) != chunks or len(packed) != -(-total // 8) or total < count:
        raise CodingError("a Huffman code is shorter or longer than it says.")
    table = _table(lengths) if count else None
    if table is None:
        return np.zeros(0, np.int64)
    return _decode_chunks(np.append(packed, np.zeros(4, np.uint8)), ends, count, table)


def _read_head(data: bytes) -> tuple[np.ndarray, int, bytes]:
    if len(data) < 6:
        raise CodingError("a Huffman code is cut off.")
    words = int(np.frombuffer(data[:2], "<u2")[0])
    count = int(np.frombuffer(data[2:6], "<u4")[0])
    nibbles = np.frombuffer(data[6 : 6 + -(-words // 2)], np.uint8)
    if words > MAX_SYMBOLS or len(nibbles) != -(-words // 2) or count > 8 * len(data):
        raise CodingError("the head of a Huffman code makes no sense.")
    lengths = np.stack([nibbles & 15, nibbles >> 4], axis=1).reshape(-1)[:words]
    return lengths, count, data[6 + len(nibbles) :]


def _word_lengths(counts: np.ndarray) -> np.ndarray:
    """Lengths of the words of an optimal code, none above ``MAX_LENGTH``."""
    lengths = np.zeros(len(counts), np.uint8)
    used = np.flatnonzero(counts)
    if len(used) < 2:
        lengths[used] = 1
        return lengths
    weights = counts[used].astype(np.int64)
    while True:
        depths = _depths(weights)
        if depths.max() <= MAX_LENGTH:
            break
        weights = (weights + 1) // 2  # a flatter tree, a little worse
    lengths[used] = depths
    return lengths


def _depths(weights: np.ndarray) -> np.ndarray:
    """The depths of the leaves of the Huffman tree; loops over the alphabet only."""
    n = len(weights)
    heap = [(int(weight), i) for i, weight in enumerate(weights)]
    heapq.heapify(heap)
    parent = np.zeros(2 * n - 1, np.int64)
    for node in range(n, 2 * n - 1):
        first, a = heapq.heappop(heap)
        second, b = heapq.heappop(heap)
        parent[[a, b]] = node
        heapq.heappush(heap, (first + second, node))
    depth = np.zeros(2 * n - 1, np.int64)
    for node in range(2 * n - 3, -1, -1):
        depth[node] = depth[parent[node]] + 1
    return depth[:n]


def _words(lengths: np.ndarray) -> np.ndarray:
    """The canonical words: in order of length, then of symbol."""
    words = np.zeros(len(lengths), np.int64)
    word, length = 0, 0
    for symbol in np.lexsort((np.arange(len(lengths)), lengths)):
        if lengths[symbol]:
            word <<= int(lengths[symbol]) - length
            length = int(lengths[symbol])
            words[symbol] = word
            word += 1
    return words


def _table(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Symbol and length of the word at the start of any next bits, and how many."""
    used = np.flatnonzero(lengths)
    width = int(lengths.max(initial=0))
    share = np.int64(1) << (width - lengths[used].astype(np.int64))
    single = len(used) == 1 and width == 1
    if not (single or (len(used) and share.sum() == 1 << width)):
        raise CodingError("the lengths of a Huffman code are those of no code.")
    order = used[np.lexsort((used, lengths[used]))]
    spread = np.int64(1) << (width - lengths[order].astype(np.int64))
    symbols = np.repeat(order, 2 if single else spread)
    return symbols, lengths[symbols].astype(np.int64), width


def _decode_chunks(
    packed: np.ndarray,
    ends: np.ndarray,
    count: int,
    table: tuple[np.ndarray, np.ndarray, int],
) -> np.ndarray:
    symbols, sizes, width = table
    at = np.append(0, ends[:-1])
    lanes, last = len(ends), count - (len(ends) - 1) * _CHUNK
    out = np.zeros((lanes, min(count, _CHUNK)), np.int64)
    data, limit = packed.astype(np.int64), int(ends[-1])
    for i in range(out.shape[1]):
        active = lanes if i < last else lanes - 1
        here = np.minimum(at[:active], limit)
        byte = here >> 3
        three = data[byte] << 16 | data[byte + 1] << 8 | data[byte + 2]
        key = (three >> (24 - width - (here & 7))) & ((1 << width) - 1)
        out[:active, i] = symbols[key]
        at[:active] = here + sizes[key]
    if not np.array_equal(at, ends):
        raise CodingError("a Huffman code does not end where it says.")
    return out.reshape(-1)[:count]
