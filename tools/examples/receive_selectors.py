#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""An event loop by selectors: prints each message of two nodes with what the kernel
knows of it, until both channels have ended.  Needs nothing but Python.

    ./receive_selectors.py /dev/umpsc /dev/umpsc-log &
    echo hello > /dev/umpsc; echo world > /dev/umpsc-log
"""

import array
import errno
import fcntl
import os
import selectors
import struct
import sys

# <linux/umpsc.h>: struct umpsc_recv_args, struct umpsc_record, UMPSC_IOC_RECV
RECV_ARGS = struct.Struct("=QQQIIQQ")
RECORD = struct.Struct("=IHHQQQ")
RECV = 3 << 30 | RECV_ARGS.size << 16 | 0xD5 << 8 | 0x20


class Receiver:
    """The receiver of a node's channel, whole messages at a time."""

    def __init__(self, path):
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self.memory = array.array("B", bytes(65536))

    def fileno(self):
        return self.fd

    def receive(self, most=1000):
        """What is queued, as (seq, sender, bytes); None at the end."""
        while True:
            address, size = self.memory.buffer_info()
            args = bytearray(RECV_ARGS.pack(address, size, 0, most, 0, 0, 0))
            try:
                count = fcntl.ioctl(self.fd, RECV, args)
                break
            except BlockingIOError:
                return []
            except OSError as error:
                if error.errno != errno.EMSGSIZE:
                    raise
                # The kernel says how much the next message needs.
                self.memory = array.array("B", bytes(RECV_ARGS.unpack(args)[6]))
        if not count:
            return None
        messages, at, data = [], 0, memoryview(self.memory)
        for _ in range(count):
            length, hdr, _, seq, sender, _ = RECORD.unpack_from(data, at)
            messages.append((seq, sender, bytes(data[at + hdr:at + hdr + length])))
            at += (hdr + length + 7) // 8 * 8
        return messages


def main():
    with selectors.DefaultSelector() as selector:
        for path in sys.argv[1:]:
            selector.register(Receiver(path), selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select():
                receiver = key.fileobj
                messages = receiver.receive()
                if messages is None:
                    selector.unregister(receiver)
                    os.close(receiver.fd)
                for seq, sender, data in messages or []:
                    print(f"{receiver.path} {seq} from {sender}: {data!r}", flush=True)


if __name__ == "__main__":
    main()
