"""What the kernel lets a process give up for good: files, sockets, other processes (Linux: Landlock and seccomp).

Both are a few system calls, made through `ctypes`. The libraries for them are either unfinished (landlock 1.0 is a
development release without network and signals) or without a release for years and in need of a system library
(pyseccomp).
Nothing here is cryptography; the tests in tests/foreign run code behind the barriers and see it fail.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from dataclasses import dataclass

_CREATE_RULESET, _RESTRICT_SELF = 444, 446  # landlock_*; one number on all architectures
_ABI_VERSION = 1
_NO_NEW_PRIVILEGES = 38
_FILTER, _ALL_THREADS = 1, 1
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_EPERM, _ENOSYS = 1, 38
_LOAD, _JUMP_IF_EQUAL, _JUMP_IF_SET, _RETURN = 0x20, 0x15, 0x45, 0x06
_CLONE_THREAD = 0x00010000


@dataclass(frozen=True, slots=True)
class _Machine:
    """Numbers of an architecture: its audit code, the system call `seccomp`, and the calls that stay allowed.

    `threads` are those that threads need besides, none where that has not been tried; `clone` makes one, `clone3` too,
    but what it makes lies in memory, where a filter does not see it.
    """

    audit: int
    seccomp: int
    allowed: tuple[int, ...]
    threads: tuple[int, ...] = ()
    clone: int = 0
    clone3: int = 435


def _numbers(text: str) -> tuple[int, ...]:
    """Numbers and ranges of numbers, both ends included."""
    ranges = (word.partition("-") for word in text.split())
    return tuple(k for first, _, last in ranges for k in range(int(first), int(last or first) + 1))


# Memory, time, signals of one's own, waiting, and reading and writing what is open already. No open, no socket, no
# fork, no exec, no kill, no ioctl, no prctl.
_MACHINES = {
    # read write close fstat lseek mmap mprotect munmap brk rt_sigaction rt_sigprocmask rt_sigreturn sched_yield mremap
    # madvise nanosleep getpid exit uname gettimeofday getrusage sysinfo times sigaltstack gettid time futex
    # sched_getaffinity restart_syscall clock_gettime clock_getres clock_nanosleep exit_group getrandom rseq
    "x86_64": _Machine(
        0xC000003E,
        317,
        _numbers("0 1 3 5 8-15 24 25 28 35 39 60 63 96 98-100 131 186 201 202 204 219 228-231 318 334"),
        # epoll_wait epoll_ctl set_robust_list epoll_pwait epoll_pwait2
        _numbers("232 233 273 281 441"),
        56,
    ),
    "aarch64": _Machine(
        0xC00000B7,
        277,
        _numbers(
            "57 62-64 80 93 94 98 101 113-115 123 124 128 132 134 135 139 153 160 165 169 172 178 179 214-216 222 226 "
            "233 278 293"
        ),
    ),
}


@dataclass(frozen=True, slots=True)
class Barriers:
    """What stands between a process and everything else.

    Attributes
    ----------
    landlock : version of the kernel's interface; 0 where it has none (then files are kept shut by seccomp alone).
    seccomp : whether system calls are filtered.
    """

    landlock: int
    seccomp: bool

    @property
    def missing(self) -> str:
        """What the system does not offer, in words; empty where nothing is missing."""
        gone = ["Landlock"] * (not self.landlock) + ["seccomp"] * (not self.seccomp)
        return " and ".join(gone)


def offered() -> Barriers:
    """What this system offers, without giving anything up."""
    if not sys.platform.startswith("linux"):
        return Barriers(0, False)
    try:
        with open("/proc/sys/kernel/seccomp/actions_avail", encoding="ascii") as file:
            filters = "errno" in file.read().split()
    except OSError:
        filters = False
    known = platform.machine() in _MACHINES and struct.calcsize("P") == 8
    return Barriers(_landlock_version(), filters and known)


def raise_barriers(*, threads: bool = False) -> Barriers:
    """Give up, for this process and all it could ever start: opening files, sockets, starting and signalling processes.

    What is open stays open. It must be called before a second thread is started; what the system does not offer is
    left out and said in the result.

    Parameters
    ----------
    threads : the process is yet to load what it works with, threads among it: only writing, TCP and signals to others
        are given up, and seccomp is left out until `raise_filter_around_threads`.
    """
    here = offered()
    if threads:
        here = Barriers(here.landlock, False)
    if not (here.landlock or here.seccomp):
        return here
    if len(os.listdir("/proc/self/task")) > 1:
        raise RuntimeError("barriers must be raised before threads are started: they hold for those that are there")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
        return Barriers(0, False)
    landlock = here.landlock if here.landlock and _restrict(libc, here.landlock, reading=threads) else 0
    return Barriers(landlock, here.seccomp and _filter(libc, _MACHINES[platform.machine()]))


def raise_filter_around_threads(so_far: Barriers) -> Barriers:
    """Give up, in all threads at once, what `raise_barriers` left to a process that had yet to load what it works with.

    New threads may be started, processes not. Where the system has no such filter, things stay as they are.
    """
    machine = _MACHINES.get(platform.machine())
    if machine is None or not (machine.threads and offered().seccomp):
        return so_far
    libc = ctypes.CDLL(None, use_errno=True)
    held = libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0 and _filter(libc, machine, threads=True)
    return Barriers(so_far.landlock, held)


def _landlock_version() -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    return max(int(libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _ABI_VERSION)), 0)


def _restrict(libc: ctypes.CDLL, version: int, *, reading: bool) -> bool:
    """Handle every right that the version knows and allow none: files, TCP, abstract sockets, signals.

    `reading` leaves out execution (bit 0), reading of files and of folders (2 and 3).
    """
    files = (1 << 13) - 1 & ~(0b1101 if reading else 0)
    for since, bit in ((2, 13), (3, 14), (5, 15)):  # refer, truncate, ioctl on devices
        files |= (version >= since) << bit
    words = [files] + [3] * (version >= 4) + [3] * (version >= 6)
    attributes = (ctypes.c_uint64 * len(words))(*words)
    ruleset = libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(ctypes.sizeof(attributes)), 0)
    if ruleset < 0:
        return False
    held = int(libc.syscall(_RESTRICT_SELF, ruleset, 0)) == 0
    os.close(ruleset)
    return held


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))


def _filter(libc: ctypes.CDLL, machine: _Machine, *, threads: bool = False) -> bool:
    """System calls that are not listed answer EPERM; those of another architecture end the process."""
    allowed = machine.allowed + (machine.threads if threads else ())
    count = len(allowed)
    steps = [(_LOAD, 0, 0, 4), (_JUMP_IF_EQUAL, 1, 0, machine.audit), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, 0)]
    if threads:
        # Without clone3 the C library takes clone, whose flags (the first argument) say whether it is a thread.
        steps += [(_JUMP_IF_EQUAL, 0, 1, machine.clone3), (_RETURN, 0, 0, _REFUSE | _ENOSYS)]
        steps += [(_JUMP_IF_EQUAL, 0, 4, machine.clone), (_LOAD, 0, 0, 16), (_JUMP_IF_SET, 0, 1, _CLONE_THREAD)]
        steps += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _REFUSE | _EPERM)]
    steps += [(_JUMP_IF_EQUAL, count - k, 0, number) for k, number in enumerate(allowed)]
    steps += [(_RETURN, 0, 0, _REFUSE | _EPERM), (_RETURN, 0, 0, _ALLOW)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = _Program(len(steps), ctypes.cast(code, ctypes.c_void_p))
    return int(libc.syscall(machine.seccomp, _FILTER, _ALL_THREADS, ctypes.byref(program))) == 0
