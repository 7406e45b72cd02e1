"""The rule from ids to table rows once more, in plain Python integers, from its description alone.

No numpy and no pandas: whoever reads a trained table in another language writes this.
"""

_MASK = 2**64 - 1
_KEY = b"0123456789123456"


def plain_row(value: int | str, rows: int) -> int:
    """The table row of an integer in [-2^63, 2^64) or of a string."""
    if isinstance(value, str):
        mixed = splitmix64_finaliser(siphash24(_KEY, value.encode()))
    else:
        if 0 <= value < rows:
            return value
        mixed = splitmix64_finaliser((value + 0x9E3779B97F4A7C15) & _MASK)
    return ((mixed >> 32) * rows) >> 32


def splitmix64_finaliser(bits: int) -> int:
    """Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014."""
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & _MASK
    return bits ^ (bits >> 31)


def siphash24(key: bytes, message: bytes) -> int:
    """Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012: 2 rounds a word, 4 at the
    end; words of 8 bytes are little-endian."""
    k0, k1 = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")
    state = [
        k0 ^ 0x736F6D6570736575,
        k1 ^ 0x646F72616E646F6D,
        k0 ^ 0x6C7967656E657261,
        k1 ^ 0x7465646279746573,
    ]
    padded = message + bytes(7 - len(message) % 8) + bytes([len(message) % 256])
    for start in range(0, len(padded), 8):
        word = int.from_bytes(padded[start : start + 8], "little")
        state[3] ^= word
        state = _round(_round(state))
        state[0] ^= word
    state[2] ^= 0xFF
    for _ in range(4):
        state = _round(state)
    return state[0] ^ state[1] ^ state[2] ^ state[3]


def _round(state: list[int]) -> list[int]:
    a, b, c, d = state
    a = (a + b) & _MASK
    b = _rotated(b, 13) ^ a
    a = _rotated(a, 32)
    c = (c + d) & _MASK
    d = _rotated(d, 16) ^ c
    a = (a + d) & _MASK
    d = _rotated(d, 21) ^ a
    c = (c + b) & _MASK
    b = _rotated(b, 17) ^ c
    c = _rotated(c, 32)
    return [a, b, c, d]


def _rotated(word: int, bits: int) -> int:
    return ((word << bits) | (word >> (64 - bits))) & _MASK
