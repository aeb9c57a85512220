"""Runs a command in a directory on a FUSE file system that hangs while a file exists.

    unshare --mount --propagation private python hanging_mount.py MOUNT_POINT FILE COMMAND…

The file system has one empty directory. It answers anything late that it is asked while it hangs,
as an NFS server does that comes back. The exit status is the command's, and STILL_RUNS for one
that does not end. Without libfuse: it speaks the kernel's protocol.
"""

from __future__ import annotations

import ctypes
import os
import signal
import stat
import struct
import subprocess
import sys
import time
from pathlib import Path

STILL_RUNS = 99
_LIMIT_S = 40.0

_LOOKUP, _FORGET, _GETATTR, _STATFS, _INIT, _OPENDIR, _READDIR = 1, 2, 3, 17, 26, 27, 28
_RELEASEDIR, _ACCESS, _INTERRUPT, _BATCH_FORGET = 29, 34, 36, 42
_ENOENT, _ENOSYS = 2, 38
_BLOCKS, _FREE_BLOCKS, _BLOCK_BYTES = 1_000_000, 400_000, 4096
_INIT_REPLY = struct.pack("<IIIIHHIIHHI7I", 7, 31, 65536, 0, 12, 10, 65536, 1, 0, 0, 0, *[0] * 7)
_STATFS_REPLY = struct.pack(
    "<QQQQQIIII24x", _BLOCKS, _FREE_BLOCKS, _FREE_BLOCKS, 1000, 500, _BLOCK_BYTES, 255, 4096, 0
)


def serve(mount_point: str, hangs: Path, ready: int) -> None:
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"hang", mount_point.encode(), b"fuse.hang", 6, options):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    os.write(ready, b"x")
    while True:
        request = os.read(device, 1 << 17)
        _, operation, unique, _ = struct.unpack("<IIQQ", request[:24])
        if operation in {_FORGET, _INTERRUPT, _BATCH_FORGET}:
            continue
        while hangs.exists() and operation != _INIT:
            time.sleep(0.01)
        data, error = _answer(operation)
        os.write(device, struct.pack("<IiQ", 16 + len(data), -error, unique) + data)


def _answer(operation: int) -> tuple[bytes, int]:
    now_s = int(time.time())
    mode = stat.S_IFDIR | 0o777
    attributes = struct.pack(
        "<QII QQQQQQIIIIIIIIII",
        *(0, 0, 0),  # not to be remembered by the kernel
        *(1, 0, 0, now_s, now_s, now_s, 0, 0, 0, mode, 2, 0, 0, 0, 4096, 0),
    )
    answers = {
        _INIT: _INIT_REPLY,
        _GETATTR: attributes,
        _STATFS: _STATFS_REPLY,
        _OPENDIR: struct.pack("<QII", 0, 0, 0),
    }
    if operation in answers:
        return answers[operation], 0
    if operation in {_READDIR, _RELEASEDIR, _ACCESS}:
        return b"", 0
    return b"", _ENOENT if operation == _LOOKUP else _ENOSYS


def main(mount_point: str, hangs: Path, command: list[str]) -> int:
    reading, writing = os.pipe()
    server = os.fork()
    if not server:
        try:
            serve(mount_point, hangs, writing)
        finally:
            os._exit(1)
    os.close(writing)
    if not os.read(reading, 1):
        return 1
    process = subprocess.Popen(command, cwd=mount_point)
    try:
        return process.wait(_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return STILL_RUNS
    finally:
        os.kill(server, signal.SIGKILL)  # lets go of whoever is in a call


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:]))
