"""Powers by OpenSSL are those of `pow`, and `pow` takes them where OpenSSL cannot be reached or fails."""

import _hashlib
import ctypes
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.peer import mse
from wire.peer.power import _by_openssl, _openssl, power

PRIME = mse._PRIME
SYMBOLS = (
    "BN_CTX_new",
    "BN_CTX_free",
    "BN_new",
    "BN_clear_free",
    "BN_bin2bn",
    "BN_bn2binpad",
    "BN_mod_exp",
    "ERR_clear_error",
)


def is_reached() -> bool:
    """Whether this interpreter's OpenSSL can be asked, seen without the module under test."""
    try:
        ctypes.PyDLL(_hashlib.__file__).BN_mod_exp  # noqa: B018 - a look-up is all that is asked
    except (AttributeError, OSError):
        return False
    return True


reached = pytest.mark.skipif(not is_reached(), reason="this interpreter's OpenSSL shows no symbols")


def openssl(**instead: Callable[..., Any] | None) -> tuple[Any, Counter[str]]:
    """OpenSSL, some functions of which are others or (None) are not there, and how often each of its own was called."""
    library, calls = ctypes.PyDLL(_hashlib.__file__), Counter[str]()

    def own(name: str) -> Any:
        def count(result: Any, *_: object) -> Any:
            calls[name] += 1
            return result

        function = getattr(library, name)
        function.errcheck = count
        return function

    functions = {name: own(name) for name in SYMBOLS} | instead
    return SimpleNamespace(**{name: function for name, function in functions.items() if function}), calls


def fails(*_: object) -> None:
    """In place of a function."""
    raise MemoryError


@pytest.fixture
def fresh() -> Iterator[None]:
    """Nothing is loaded before the test, nor kept of it."""
    _openssl.cache_clear()
    yield
    _openssl.cache_clear()


def numbers(bits: int) -> st.SearchStrategy[int]:
    """All sizes up to `bits`, and those at the ends."""
    edges = st.sampled_from([0, 1, 2, 255, 256, (1 << bits) - 1, 1 << (bits - 1)])
    return edges | st.integers(0, (1 << bits) - 1) | st.integers(0, bits).flatmap(lambda n: st.integers(0, 1 << n))


@reached
def test_this_interpreter_asks_openssl(fresh: None) -> None:
    assert power(3, 5, PRIME) == 243
    assert _openssl() is not None


@given(st.one_of(numbers(768), st.sampled_from([PRIME - 2, PRIME - 1, PRIME, PRIME + 1])), numbers(160))
def test_it_is_the_power_of_mse(base: int, exponent: int) -> None:
    assert power(base, exponent, PRIME) == pow(base, exponent, PRIME)


@given(numbers(900), numbers(200), numbers(800).filter(bool))
def test_it_is_the_power_of_any_numbers(base: int, exponent: int, modulus: int) -> None:
    """Even moduli too, results of nothing but zeros, bases above the modulus."""
    assert power(base, exponent, modulus) == pow(base, exponent, modulus)


def test_no_power_is_taken_of_modulus_zero() -> None:
    with pytest.raises(ValueError, match="0"):
        power(2, 3, 0)


@reached
@pytest.mark.parametrize("name", SYMBOLS)
def test_a_symbol_that_is_missing_means_pow(name: str, fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    library, _ = openssl(**{name: None})
    monkeypatch.setattr(ctypes, "PyDLL", lambda _: library)
    assert power(3, 5, PRIME) == 243
    assert _openssl() is None


@reached
@pytest.mark.parametrize("name", ["BN_bin2bn", "BN_mod_exp", "BN_bn2binpad"])
@pytest.mark.parametrize("wrong", [fails, lambda *arguments: arguments[-1]], ids=["fails", "gives something else"])
def test_a_check_that_fails_means_pow(
    name: str, wrong: Callable[..., Any], fresh: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    library, _ = openssl(**{name: wrong})
    monkeypatch.setattr(ctypes, "PyDLL", lambda _: library)
    assert power(3, 5, PRIME) == 243
    assert _openssl() is None


@pytest.mark.parametrize("what", ["no module", "no file", "no library", "no ctypes"])
def test_an_interpreter_without_it_means_pow(what: str, fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    if what == "no module":  # built without OpenSSL
        monkeypatch.setitem(sys.modules, "_hashlib", None)
    elif what == "no file":  # linked into the interpreter
        monkeypatch.delattr(_hashlib, "__file__", raising=False)
    elif what == "no library":  # written in Python, as PyPy's
        monkeypatch.setattr(_hashlib, "__file__", __file__, raising=False)
    else:
        monkeypatch.setitem(sys.modules, "ctypes", None)
    assert power(3, 5, PRIME) == 243
    assert _openssl() is None


@reached
@pytest.mark.parametrize(
    ("name", "result"),
    [("BN_CTX_new", None), ("BN_new", None), ("BN_bin2bn", None), ("BN_mod_exp", 0), ("BN_bn2binpad", -1)],
)
def test_a_call_that_fails_is_made_good_by_pow(
    name: str, result: int | None, fresh: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    library, calls = openssl(**{name: lambda *_: result})
    attempt = _by_openssl(library)
    assert attempt(3, 5, PRIME) is None
    assert calls["ERR_clear_error"] == 1, "the error waits for the next who asks OpenSSL for one"
    monkeypatch.setattr("wire.peer.power._openssl", lambda: attempt)
    assert power(3, 5, PRIME) == 243


@reached
@pytest.mark.parametrize("failing", ["", "BN_CTX_new", "BN_new", "BN_bin2bn", "BN_mod_exp", "BN_bn2binpad"])
def test_all_that_is_made_is_freed(failing: str) -> None:
    library, calls = openssl(**{failing: fails} if failing else {})
    with pytest.raises(MemoryError) if failing else nullcontext():
        assert _by_openssl(library)(3, 5, PRIME) == 243
    assert calls["BN_clear_free"] == calls["BN_new"] + calls["BN_bin2bn"]
    assert calls["BN_CTX_free"] == 1  # of none, if there is none: OpenSSL allows it
    assert failing or calls["BN_bin2bn"] == 3


def test_threads_do_not_disturb_each_other(fresh: None) -> None:
    wrong: list[int] = []
    begun = threading.Barrier(2)

    def take(seed: int) -> None:
        rng = random.Random(seed)
        begun.wait()
        for _ in range(100):
            base, exponent = rng.getrandbits(760), rng.getrandbits(160)
            if power(base, exponent, PRIME) != pow(base, exponent, PRIME):
                wrong.append(seed)

    threads = [threading.Thread(target=take, args=(seed,)) for seed in range(2)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not wrong


@reached
def test_ctypes_comes_with_the_first_power_only() -> None:
    program = (
        "import sys; from wire.peer import mse, power\n"
        "assert 'ctypes' not in sys.modules\n"
        "assert power.power(3, 5, mse._PRIME) == 243\n"
        "assert 'ctypes' in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
