#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A channel in asyncio: several tasks send, and one takes the messages as they come,
until the last sender has gone.  Needs nothing but Python.

    ./receive_asyncio.py /dev/umpsc
"""

import asyncio
import os
import sys


async def messages(path):
    """The messages of a node, one by one, until the channel ends.

    A read is of one message, or its first part where it is larger than what is asked
    for; what is empty is passed over.
    """
    loop = asyncio.get_running_loop()
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    readable = asyncio.Event()
    loop.add_reader(fd, readable.set)
    try:
        while True:
            try:
                data = os.read(fd, 1 << 20)
            except BlockingIOError:
                readable.clear()
                await readable.wait()
                continue
            if not data:
                return
            yield data
    finally:
        loop.remove_reader(fd)
        os.close(fd)


async def send(fd, name):
    for number in range(3):
        # A write is a message.  It never waits for the receiver.
        os.write(fd, f"{name} {number}".encode())
        await asyncio.sleep(0.01)
    os.close(fd)


async def main(path):
    # Each has a sender of its own; all are there before the first one goes.
    senders = [os.open(path, os.O_WRONLY) for _ in range(3)]
    tasks = [asyncio.create_task(send(fd, f"task {i}")) for i, fd in enumerate(senders)]
    async for data in messages(path):
        print(data.decode(), flush=True)
    await asyncio.gather(*tasks)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "/dev/umpsc"))
