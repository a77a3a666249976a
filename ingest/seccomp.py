"""A kernel filter that keeps the decoding child from starting or signalling other processes.

Belongs here: the filter's few instructions, for x86_64 and aarch64. Not here: the rest of the
confinement (``confinement.py``). A limit on processes (``RLIMIT_NPROC``) would not do: it does not
bind root, whom containers run as.

Source: Documentation/userspace-api/seccomp_filter.rst of the Linux kernel; classic BPF's instructions
are in linux/bpf_common.h, the numbers of system calls in asm/unistd.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2  # linux/prctl.h, linux/seccomp.h
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _IF_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _ARCH_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
"""Where struct seccomp_data holds what is looked at; of an argument, its low half."""
_ALLOW, _DENY, _ABSENT = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
_CLONE_THREAD = 0x10000
_X32_CALLS_FROM = 0x40000000
"""x86_64 kernels may know each call by a second number from here on; aarch64 has none as high."""
_CLONE3 = 435
"""Its flags lie in memory, where no filter looks. Told that it is absent, C libraries use clone."""
_MACHINES: dict[str, tuple[int, int, tuple[int, int], tuple[int, ...]]] = {
    # fork vfork execve execveat, tkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_send_signal, ptrace
    # process_vm_writev
    "x86_64": (0xC000003E, 56, (62, 234), (57, 58, 59, 322, 200, 129, 297, 424, 101, 311)),
    "aarch64": (0xC00000B7, 220, (129, 131), (221, 281, 130, 138, 240, 424, 117, 271)),
}
"""By machine: its audit architecture, clone, (kill, tgkill), and the calls that are always denied."""


def keep_to_itself(libc: ctypes.CDLL) -> bool:
    """Deny this process, for good, new processes and programs and signals to others; tell whether it holds.

    Threads may still be started, and the process may signal itself, as ``abort`` does. It must have set
    no_new_privs before. False where machine or kernel know no such filter.
    """
    machine = _MACHINES.get(os.uname().machine)
    if machine is None:
        return False
    instructions = b"".join(_program(*machine, own_pid=os.getpid()))
    code = ctypes.create_string_buffer(instructions, len(instructions))
    program = struct.pack("@HP", len(instructions) // 8, ctypes.addressof(code))
    return bool(libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, program, 0, 0) == 0)


def _program(
    architecture: int, clone: int, signals: tuple[int, int], denied: tuple[int, ...], *, own_pid: int
) -> list[bytes]:
    def step(code: int, value: int, *, if_true: int = 0, if_false: int = 0) -> bytes:
        """Return one instruction; a test skips as many of the next ones as it is told."""
        return struct.pack("=HBBI", code, if_true, if_false, value)

    kill, tgkill = signals
    deny, allow, argument = step(_RETURN, _DENY), step(_RETURN, _ALLOW), step(_LOAD, _FIRST_ARGUMENT_AT)
    return [
        *(step(_LOAD, _ARCH_AT), step(_IF_EQUAL, architecture, if_true=1), deny),
        *(step(_LOAD, _NUMBER_AT), step(_IF_AT_LEAST, _X32_CALLS_FROM, if_false=1), deny),
        *(part for number in denied for part in (step(_IF_EQUAL, number, if_false=1), deny)),
        *(step(_IF_EQUAL, _CLONE3, if_false=1), step(_RETURN, _ABSENT)),
        *(
            step(_IF_EQUAL, clone, if_false=4),
            argument,
            step(_IF_BITS, _CLONE_THREAD, if_true=1),
            deny,
            allow,
        ),
        *(step(_IF_EQUAL, kill, if_true=1), step(_IF_EQUAL, tgkill, if_false=4)),
        *(argument, step(_IF_EQUAL, own_pid, if_true=1), deny, allow),
        allow,
    ]
