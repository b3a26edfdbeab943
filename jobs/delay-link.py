#!/usr/bin/env python3
"""Cables that take their time: pairs of network devices, between which frames arrive so many milliseconds late.

    python3 jobs/delay-link.py MILLISECONDS NAME PEER [NAME PEER …]

Makes the devices (TAP; needs root), prints "ready", and carries frames until it is ended, with which the devices go. They
can be moved into network namespaces meanwhile. For kernels without netem; jobs/network-study.sh uses it.
"""
import collections
import fcntl
import os
import select
import struct
import sys
import time

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
LARGEST_FRAME = 1 << 16


def device(name):
    handle = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(handle, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TAP | IFF_NO_PI))
    return handle


def main():
    if len(sys.argv) < 4 or len(sys.argv) % 2:
        sys.exit(__doc__)
    delay = float(sys.argv[1]) / 1000
    ends = [device(name) for name in sys.argv[2:]]
    other = {ends[i]: ends[i ^ 1] for i in range(len(ends))}
    print("ready", flush=True)
    late = collections.deque()  # All wait equally long: the first to come is the first to go.
    while True:
        wait = None if not late else max(0, late[0][0] - time.monotonic())
        for end in select.select(ends, [], [], wait)[0]:
            try:
                while True:
                    frame = os.read(end, LARGEST_FRAME)
                    late.append((time.monotonic() + delay, other[end], frame))
            except BlockingIOError:
                pass
            except OSError:
                pass  # The device is down.
        while late and late[0][0] <= time.monotonic():
            _, end, frame = late.popleft()
            try:
                os.write(end, frame)
            except OSError:
                pass  # A cable loses what nobody takes.


if __name__ == "__main__":
    main()
