"""Powers of large numbers, by the OpenSSL that Python's own hashlib runs on; by `pow` where that cannot be reached.

OpenSSL takes a seventh of the time of `pow` for the numbers of MSE. Its library is in the process already: the module
`_hashlib` needs it, and a symbol that is asked of that module is looked for in what it needs (Linux, macOS). It is not
where OpenSSL is a part of the interpreter itself, nor on Windows, nor without CPython. Nothing is kept between calls.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ctypes

__all__ = ["power"]

_Attempt = Callable[[int, int, int], int | None]

_CHECK = (
    int.from_bytes(range(1, 97), "big"),
    int.from_bytes(range(1, 21), "big"),
    int.from_bytes(range(96, 192), "big"),
)
"""Numbers as long as those of MSE, the modulus odd as a prime is: what both ways must give the same power of."""


def power(base: int, exponent: int, modulus: int) -> int:
    """`pow(base, exponent, modulus)` of numbers that are not negative; the modulus is not 0.

    The first call loads what it needs: a millisecond, and ctypes where nobody imported it (trio does).
    """
    attempt = _openssl()
    found = attempt and attempt(base, exponent, modulus)
    return pow(base, exponent, modulus) if found is None else found


@lru_cache(maxsize=1)
def _openssl() -> _Attempt | None:
    """OpenSSL's way, if this process has it and it is right; two threads may both look, and find the same."""
    try:
        import _hashlib
        import ctypes

        # PyDLL keeps the interpreter's lock: to give it away and take it again is not worth it for a tenth of a ms.
        attempt = _by_openssl(ctypes.PyDLL(_hashlib.__file__))
        return attempt if attempt(*_CHECK) == pow(*_CHECK) else None
    except Exception:  # whatever it is that this build of Python lacks or forbids, `pow` it has
        return None


def _by_openssl(library: ctypes.PyDLL) -> _Attempt:
    """The power by OpenSSL's numbers (`BN_*`, the same since 1.1.0), or None where OpenSSL refuses.

    Raises AttributeError where the library lacks a function.
    """
    import ctypes

    def declared(name: str, result: type | None, *arguments: type) -> Any:
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
        return function

    pointer, count, data = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
    new_context = declared("BN_CTX_new", pointer)
    free_context = declared("BN_CTX_free", None, pointer)
    new_number = declared("BN_new", pointer)
    free_number = declared("BN_clear_free", None, pointer)
    from_bytes = declared("BN_bin2bn", pointer, data, count, pointer)
    to_bytes = declared("BN_bn2binpad", count, pointer, data, count)
    raise_to = declared("BN_mod_exp", count, pointer, pointer, pointer, pointer, pointer)
    clear_errors = declared("ERR_clear_error", None)

    def by_openssl(base: int, exponent: int, modulus: int) -> int | None:
        size = _bytes_of(modulus)
        inputs = [number.to_bytes(_bytes_of(number), "big") for number in (base, exponent, modulus)]
        result = ctypes.create_string_buffer(size)
        context, numbers = None, []
        try:
            context = new_context()
            numbers.append(new_number())
            for raw in inputs:
                numbers.append(from_bytes(raw, len(raw), None))
            if (
                context is not None
                and None not in numbers
                and raise_to(*numbers, context) == 1
                and to_bytes(numbers[0], result, size) == size
            ):
                return int.from_bytes(result.raw, "big")
        finally:
            for number in numbers:
                free_number(number)  # overwrites them: one is the private key
            free_context(context)
        clear_errors()  # what is left in this thread's list is read by the next who asks, as TLS does
        return None

    return by_openssl


def _bytes_of(number: int) -> int:
    return (number.bit_length() + 7) // 8
