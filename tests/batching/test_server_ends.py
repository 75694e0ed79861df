"""How servers end that nobody closes: with their process, with the last reference, and in a child of their process."""

import gc
import os
import subprocess
import sys
import threading
import time

import pytest

from kdpm2.batching import Server
from tests.batching.asking import DENOISER, MOST, OPTIONS, Gate, check, request

PREAMBLE = """
import gc, os, sys, threading, time
import torch
from kdpm2.batching import Request, Server

torch.set_num_threads(1)

def network(x, sigma):
    for _ in range(20):
        x = torch.tanh(x @ torch.ones(64, 64) * 1e-3)
    return x

def request(seed, steps=90):
    return Request(sigmas=[20 * 0.9**step for step in range(steps)] + [0.0], seed=seed)

def busy(steps=90):
    server = Server(network, 4, shape=(64, 64), queue_size=100)
    futures = [server.submit(request(seed, steps)) for seed in range(20)]
    while server.counters()["network_calls"] < 3:
        time.sleep(0.001)
    return server, futures
"""


def run(code: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", PREAMBLE + code], capture_output=True, text=True, timeout=120, check=False
    )


ENDS = {
    "while it works": "",
    "by an exception, and callbacks ask for more": """
for server, futures in servers:
    for future in futures:
        future.add_done_callback(lambda future: server.submit(request(1)))
raise SystemExit(0)
""",
    "without references to the servers": "del servers; gc.collect()",
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_process_ends_that_has_busy_servers(end: str) -> None:
    done = run("servers = [busy() for _ in range(3)]\nprint('ends')\n" + end)
    assert done.stdout == "ends\n"
    assert "terminate" not in done.stderr
    assert "Fatal" not in done.stderr
    assert done.returncode == 0


def threads() -> int:
    return sum(thread.name == "kdpm2 server" for thread in threading.enumerate())


def test_the_threads_of_dropped_servers_end() -> None:
    gc.collect()
    before = threads()
    servers = [Server(DENOISER, 2, **OPTIONS) for _ in range(20)]
    futures = [server.submit(request(seed)) for seed, server in enumerate(servers[:10])]
    for seed, future in enumerate(futures):
        check(future.result(MOST), request(seed))
    assert threads() == before + 20
    del servers
    gc.collect()
    deadline = time.monotonic() + MOST
    while threads() > before and time.monotonic() < deadline:
        time.sleep(0.001)
    assert threads() == before


def test_a_dropped_server_makes_what_was_submitted() -> None:
    gate = Gate()
    server = Server(gate.denoiser, 1, queue_size=3, **OPTIONS)
    thread = server._worker.thread
    futures = [server.submit(request(seed)) for seed in range(3)]
    assert gate.reached.wait(MOST)
    del server
    gc.collect()
    gate.open.set()
    for seed, future in enumerate(futures):
        check(future.result(MOST), request(seed))
    thread.join(MOST)
    assert not thread.is_alive()


FORK = """
server, futures = busy(steps=5)
held, forked = threading.Event(), threading.Event()

def hold():  # the lock, as the server's thread may in the moment of the fork
    with server._worker._changed:
        held.set()
        forked.wait(60)

threading.Thread(target=hold).start()
held.wait(60)
child = os.fork()
forked.set()
if not child:
    wrong = []
    for call in (lambda: server.submit(request(1)), server.counters, lambda: server.snapshot("nowhere")):
        try:
            call()
            wrong.append("accepted")
        except RuntimeError as error:
            if "a server does not survive a fork" not in str(error):
                wrong.append(str(error))
    server.close()
    server.close(cancel=True)
    with server:
        pass
    futures[-1].cancel()
    del server
    gc.collect()
    sys.stdout.write(" ".join(wrong))
    sys.stdout.flush()
    CHILD_ENDS
deadline = time.monotonic() + 30
while not (ended := os.waitpid(child, os.WNOHANG))[0]:
    if time.monotonic() > deadline:
        os.kill(child, 9)
        sys.exit("the child hangs")
    time.sleep(0.01)
assert ended[1] == 0, ended
assert len([future.result(60) for future in futures]) == 20
server.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("ends", ["os._exit(0)", "sys.exit(0)"])
def test_a_forked_child_is_told_that_it_has_no_server(ends: str) -> None:
    done = run(FORK.replace("CHILD_ENDS", ends))
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
