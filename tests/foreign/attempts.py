"""What hostile native code would try from inside a confined process. Each request is an attempt; the answer tells."""

from __future__ import annotations

import ctypes
import os
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

LIBC = ctypes.CDLL(None, use_errno=True)


def _open(path: str, flags: int) -> None:
    os.close(os.open(path, flags, 0o600))


def _by_libc(path: str) -> None:
    if LIBC.open(path.encode(), os.O_RDONLY) < 0:
        raise OSError(ctypes.get_errno(), "open")


def _mapped() -> None:
    """A file made executable in memory needs a file; anonymous memory is all there is."""
    if LIBC.syscall(319, b"x", 0) < 0:  # memfd_create
        raise OSError(ctypes.get_errno(), "memfd_create")


ATTEMPTS: dict[str, Callable[[str], object]] = {
    "read": lambda path: _open(path, os.O_RDONLY),
    "read by libc": _by_libc,
    "write": lambda path: _open(path, os.O_WRONLY | os.O_CREAT),
    "truncate": lambda path: os.truncate(path, 0),
    "remove": os.unlink,
    "rename": lambda path: os.rename(path, path + "2"),
    "link": lambda path: os.symlink(path, path + "3"),
    "list": lambda path: os.listdir(os.path.dirname(path)),
    "mode": lambda path: os.chmod(path, 0o777),
    "memory file": lambda path: _mapped(),
    "inet": lambda path: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
    "udp": lambda path: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    "unix": lambda path: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM),
    "fork": lambda path: os.fork(),
    "exec": lambda path: os.execv("/bin/sh", ["sh", "-c", "true"]),
    "spawn": lambda path: os.posix_spawn("/bin/sh", ["sh"], {}),
    "kill": lambda path: os.kill(os.getppid(), 0),
    "library": lambda path: ctypes.CDLL("libz.so.1"),
}


def attempt() -> Callable[[bytes], bytes]:
    """Prepare; the answer to ``name path`` is ``done`` or the error's name."""

    def answer(request: bytes) -> bytes:
        name, _, path = request.decode().partition("|")
        if name == "environment":
            return " ".join(sorted(os.environ)).encode()
        if name == "open files":
            return str(sum(_is_open(k) for k in range(64))).encode()
        if name == "memory":
            return str(len(bytearray(2**40))).encode()
        if name == "crash":
            ctypes.string_at(0)
        if name == "forever":
            while True:
                pass
        if name == "asleep":
            time.sleep(1000)
        if name == "much":
            return b"x" * 10_000_000
        try:
            ATTEMPTS[name](path)
        except OSError as failure:
            return type(failure).__name__.encode()
        return b"done"

    return answer


def attempt_with_threads() -> Callable[[bytes], bytes]:
    """As `attempt`, in a process that has another thread already; ``thread`` starts one more."""
    waiting = threading.Event()
    threading.Thread(target=waiting.wait, daemon=True).start()
    alone = attempt()

    def answer(request: bytes) -> bytes:
        with ThreadPoolExecutor(1) as new:
            return b"done" if request == b"thread|" else new.submit(alone, request).result()

    return answer


def _is_open(handle: int) -> bool:
    try:
        os.lseek(handle, 0, os.SEEK_CUR)
    except OSError as failure:
        return failure.errno != 9
    return True


def broken() -> Callable[[bytes], bytes]:
    """A preparation that fails."""
    raise RuntimeError("the engine is not there\x1b[31m")
