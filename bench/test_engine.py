"""Tests of what engine.py and soak.py measure with: each client is set upon a server that is known to be good or bad.
No wrk, no peer and no minicorn is needed.

    python3 -m unittest discover bench
"""

import itertools
import random
import socket
import subprocess
import sys
import threading
import time
import unittest
from contextlib import ExitStack

import engine
from harness import drain, growth, latency, soak_clients
from harness.client import Wrong
from harness.environment import BENCH
from harness.ledger import KILL_SECONDS, Ended, Ledger
from harness.scenario import US, Row, at_least, at_least_times, at_most
from harness.wire import Line, ResponseReader

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
WAIT_SECONDS_MAX = 10


class ResponseReaderTest(unittest.TestCase):
    def test_any_cut_gives_the_same_answers(self) -> None:
        data = HELLO + b"HTTP/1.1 100 Continue\r\n\r\n" + CHUNKED + HELLO
        for step in (1, 2, 7, len(data)):
            with self.subTest(step):
                reader, bodies = ResponseReader(), []
                for start in range(0, len(data), step):
                    reader.feed(data[start : start + step])
                    while answer := reader.next_answer():
                        bodies.append((answer.status, answer.body, answer.is_last))
                self.assertEqual(bodies, [(200, b"hello", False)] * 3)
                self.assertTrue(reader.is_between_responses)

    def test_a_response_cut_short_is_not_an_answer(self) -> None:
        for response in (HELLO, CHUNKED):
            reader = ResponseReader()
            reader.feed(response[:-1])
            self.assertIsNone(reader.next_answer())
            self.assertFalse(reader.is_between_responses)

    def test_refuses_what_cannot_be_followed(self) -> None:
        for response in (b"HTTP/1.1 200 OK\r\n\r\nhello", CHUNKED.replace(b"2\r\nhe", b"x\r\nhe"), b"SSH-2.0\r\n\r\n"):
            with self.subTest(response), self.assertRaises(Wrong):
                reader = ResponseReader()
                reader.feed(response)
                reader.next_answer()


class OnSockets(unittest.TestCase):
    """A server in threads of this program; `answer` takes a path and gives the bytes to send, or None to close."""

    def serve(self, answer) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        # Closing does not wake a thread that is in accept.
        self.addCleanup(lambda: listener.shutdown(socket.SHUT_RDWR))

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=talk, args=(connection, answer), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        return listener.getsockname()[1]


def talk(connection: socket.socket, answer) -> None:
    with connection:
        received = b""
        while more := connection.recv(65536):
            received += more
            while b"\r\n\r\n" in received:
                head, _, received = received.partition(b"\r\n\r\n")
                response = answer(head.split()[1].decode())
                if response is None:
                    return
                connection.sendall(response)


def response(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def sleep(path: str) -> bytes:
    milliseconds = path.rpartition("/")[2]
    time.sleep(int(milliseconds) / 1000)
    return response(milliseconds.encode())


def spoiling_every_tenth(bad):
    count = itertools.count(1)
    return lambda path: sleep(path) if next(count) % 10 else bad


class LatencyTest(OnSockets):
    def queueing(self):
        """A server with one thread."""
        busy = threading.Lock()

        def answer(path: str) -> bytes:
            with busy:
                return sleep(path)

        return answer

    def closed(self, port: int, seconds: float = 1.5) -> latency.Seen:
        return latency.closed_loop(port, 8, seconds, 0.01, 0.05, random.Random(1))

    def test_closed_loop_sees_who_waits_behind_a_slow_one(self) -> None:
        waiting = self.closed(self.serve(self.queueing()))
        self.assertGreater(latency.percentile(waiting.fast_ms, 99), 150)
        self.assertGreater(len(waiting.slow_ms), 0)
        self.assertEqual(waiting.failures, [])

    def test_closed_loop_sees_that_nobody_waits(self) -> None:
        free = self.closed(self.serve(sleep))
        self.assertLess(latency.percentile(free.fast_ms, 90), 100)
        self.assertGreaterEqual(min(free.slow_ms), latency.SLOW_MS)
        self.assertGreater(len(free.fast_ms), 100)

    def test_open_loop_counts_from_the_moment_a_request_was_due(self) -> None:
        # On one connection the fast one has to wait for the slow one, which began before it.
        arrivals = [(0.0, latency.SLOW_MS), (0.05, latency.FAST_MS)]
        seen = latency.open_loop(self.serve(sleep), 1, arrivals, random.Random(1))
        self.assertEqual(len(seen.slow_ms), 1)
        self.assertGreaterEqual(seen.fast_ms[0], latency.SLOW_MS - 50)
        beside = latency.open_loop(self.serve(sleep), 2, arrivals, random.Random(1))
        self.assertLess(beside.fast_ms[0], latency.SLOW_MS - 50)

    def test_what_is_wrong_is_a_failure_and_the_rest_goes_on(self) -> None:
        for bad, said in ((response(b"7"), "a body of 1 bytes"), (None, "closed")):
            with self.subTest(said):
                seen = self.closed(self.serve(spoiling_every_tenth(bad)), seconds=0.5)
                self.assertGreater(len(seen.fast_ms), 10)
                self.assertIn(said, " ".join(seen.failures))

    def test_arrivals_have_their_rate_and_their_share_of_slow_ones(self) -> None:
        arrivals = latency.poisson_arrivals(100, 50, 0.05, random.Random(1))
        self.assertEqual(sum(milliseconds == latency.SLOW_MS for _, milliseconds in arrivals), 250)
        self.assertAlmostEqual(arrivals[-1][0], 50, delta=5)
        self.assertEqual(arrivals, sorted(arrivals))

    def test_percentiles_are_values_that_occurred(self) -> None:
        values = [float(value) for value in range(100, 0, -1)]
        self.assertEqual([latency.percentile(values, percent) for percent in (50, 99, 99.9)], [50, 99, 100])
        self.assertEqual(latency.percentile([3.0], 50), 3.0)


class LineTest(OnSockets):
    def test_reconnects_after_a_last_answer(self) -> None:
        port = self.serve(lambda path: HELLO.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        line = Line(port)
        self.addCleanup(line.close)
        for _ in range(2):
            line.ask("/", b"hello", 0.0)
            line.socket.settimeout(WAIT_SECONDS_MAX)
            answer = line.receive()
            self.assertIsNotNone(answer)


class DrainTest(unittest.TestCase):
    """Transfers of a reader that is asked to look at a call from 0.5 to 2.5 s."""

    def judged(self, speed_during: float, began: float = 0.5) -> Row:
        at, total, received = 0.0, 0, []
        while total < drain.BODY_BYTES and at < 10:
            at += 0.001
            speed = drain.BYTES_PER_SECOND * (speed_during if 0.5 < at < 2.5 else 1)
            total += round(speed * 0.001)
            received.append((at, total))
        return drain.judged(drain.Transfer(received), asked_at=0.5, began=began, ended=began + 2)

    def test_speed_during_the_call_against_the_speed_before(self) -> None:
        for speed in (1.0, 0.5, 0.0):
            with self.subTest(speed):
                row = self.judged(speed)
                self.assertAlmostEqual(row.figures["during/before"], speed, delta=0.02)
                self.assertAlmostEqual(row.figures["MB/100 ms before"], 2.5, delta=0.05)

    def test_a_call_that_had_to_wait_for_the_reader_is_no_success(self) -> None:
        self.assertEqual(self.judged(1.0, began=1.8).figures["during/before"], 0)

    def test_a_broken_transfer_is_a_failure(self) -> None:
        self.assertEqual(drain.judged(drain.Transfer([], "reset"), 0, 0, 0).fails, "reset")
        transfer = drain.Transfer([(0.1, 1000), (0.4, 4000)], "closed")
        self.assertEqual(drain.judged(transfer, 0.5, 0.5, 2.5).failures, ["closed"])


class DribblersTest(unittest.TestCase):
    def test_send_single_bytes_and_come_again_when_turned_away(self) -> None:
        with ExitStack() as stack:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            listener.settimeout(WAIT_SECONDS_MAX)
            script = str(BENCH / "harness" / "dribblers.py")
            command = [sys.executable, script, str(listener.getsockname()[1]), "2"]
            pipe = subprocess.PIPE
            clients = stack.enter_context(subprocess.Popen(command, stdin=pipe, stdout=pipe))
            stack.callback(clients.kill)
            body, head = (stack.enter_context(listener.accept()[0]) for _ in range(2))
            for connection in (body, head):
                connection.settimeout(WAIT_SECONDS_MAX)
            self.assertEqual(clients.stdout.readline(), b"ready\n")
            self.assertTrue(body.recv(65536).startswith(b"POST /digest HTTP/1.1\r\n"))
            self.assertEqual([head.recv(65536), head.recv(65536)], [b"G", b"E"])
            head.sendall(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            stack.enter_context(listener.accept()[0])
            clients.stdin.close()
            self.assertEqual(clients.stdout.readline(), b"1\n")


class GrowthTest(unittest.TestCase):
    def series(self, slope: float, noise: float, count: int = 100) -> growth.Series:
        draw = random.Random(1)
        series = growth.Series()
        for at in range(count):
            series.add(at, 100 + slope * at + draw.uniform(-noise, noise))
        return series

    def test_a_leak_is_seen_through_the_noise(self) -> None:
        leaking = self.series(slope=0.2, noise=5).growth()
        self.assertTrue(leaking.is_above(5))
        self.assertAlmostEqual(leaking.by, 20, delta=3)
        self.assertAlmostEqual(leaking.start, 100, delta=3)

    def test_noise_is_no_leak(self) -> None:
        self.assertFalse(self.series(slope=0, noise=20).growth().is_above(5))

    def test_a_step_in_the_warm_up_is_left_out(self) -> None:
        series = self.series(slope=0, noise=1)
        series.values[:20] = [10.0] * 20
        self.assertTrue(series.growth().is_above(5))
        self.assertFalse(series.after(20).growth().is_above(5))

    def test_few_samples_say_nothing(self) -> None:
        self.assertIsNone(self.series(slope=1, noise=0, count=growth.SAMPLES_MIN - 1).growth())


class SoakClientTest(OnSockets):
    """One client upon one server, for a moment."""

    def run_client(self, name: str, answer, ledger: Ledger) -> Ledger:
        client = next(client for client in soak_clients.CLIENTS if client.name == name)
        stop = threading.Event()
        arguments = (client, self.serve(answer), ledger, stop, random.Random(1))
        thread = threading.Thread(target=soak_clients.run, args=arguments, daemon=True)
        thread.start()
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while not (ledger.right or ledger.cut or ledger.failed) and time.monotonic() < deadline:
            time.sleep(0.01)
        stop.set()
        thread.join(WAIT_SECONDS_MAX)
        self.assertFalse(thread.is_alive())
        return ledger

    def test_right_answers(self) -> None:
        for name in ("fast", "pipeline"):
            ledger = self.run_client(name, lambda path: response(path.rpartition("/")[2].encode()), Ledger())
            self.assertGreater(ledger.right[name], 0)
            self.assertEqual(ledger.failures, [])

    def test_downloads_are_compared_byte_by_byte(self) -> None:
        def answer(path: str, flipped: int = 0) -> bytes:
            _, _, length, seed = path.split("/")
            body = bytearray(soak_clients.content(int(length), seed))
            body[len(body) // 2] ^= flipped
            return response(bytes(body))

        self.assertGreater(self.run_client("download", answer, Ledger()).right["download"], 0)
        spoilt = self.run_client("download", lambda path: answer(path, 1), Ledger())
        self.assertGreater(spoilt.failed["download"], 0)

    def test_an_end_without_a_kill_is_a_failure(self) -> None:
        self.assertGreater(self.run_client("fast", lambda path: None, Ledger()).failed["fast"], 0)

    def test_an_end_right_after_a_kill_is_counted_apart(self) -> None:
        ledger = Ledger()
        ledger.record_kill()
        self.run_client("fast", lambda path: None, ledger)
        self.assertGreater(ledger.cut["fast"], 0)
        self.assertEqual(ledger.failed["fast"], 0)

    def test_a_wrong_answer_is_a_failure_even_after_a_kill(self) -> None:
        ledger = Ledger()
        ledger.record_kill()
        self.run_client("fast", lambda path: response(b"else"), ledger)
        self.assertGreater(ledger.failed["fast"], 0)

    def test_a_kill_excuses_nothing_later(self) -> None:
        ledger = Ledger()
        ledger.record_kill()
        ledger._kills[0] -= KILL_SECONDS + 0.1
        ledger.record_end("fast", Ended("before a response"))
        self.assertEqual((ledger.cut["fast"], ledger.failed["fast"]), (0, 1))


class JudgeTest(unittest.TestCase):
    def test_limits(self) -> None:
        rows = {US: Row({"p99 ms": 5.0})}
        self.assertEqual(at_most("p99 ms", 5.0)(rows).outcome, "ok")
        self.assertEqual(at_most("p99 ms", 4.99)(rows).outcome, "missed")
        self.assertEqual(at_least("p99 ms", 5.0)(rows).outcome, "ok")
        self.assertEqual(at_least("p99 ms", 5.01)(rows).outcome, "missed")

    def test_ratio_to_the_best_of_the_others(self) -> None:
        rows = {US: Row({"r": 100.0}), "a": Row({"r": 90.0}), "b": Row({"r": 110.0})}
        self.assertEqual(at_least_times("r", 1.0, "a")(rows).outcome, "ok")
        self.assertEqual(at_least_times("r", 1.0, "a", "b")(rows).outcome, "missed")
        self.assertEqual(at_least_times("r", 1.0, "a", "c")(rows).outcome, "not measured")

    def test_what_fails_meets_no_bar(self) -> None:
        judge = at_most("p99 ms", 5.0)
        self.assertEqual(judge({US: Row({"p99 ms": 1.0}, failures=["no answer"])}).outcome, "missed")
        self.assertEqual(judge({US: Row(fails="did not start")}).outcome, "missed")
        self.assertEqual(judge({}).outcome, "not measured")

    def test_every_scenario_finds_its_figure(self) -> None:
        figures = {"p99 ms": 1.0, "mean ms": 1.0, "min": 16.0, "max": 16.0, "KiB/connection": 1.0, "× floor": 1.0}
        figures |= {"requests/s": 1.0, "ratio": 1.0, "during/before": 1.0}
        names = [US, "granian", "gunicorn-gthread", engine.throughput.ONE_THREAD]
        for scenario in engine.SCENARIOS:
            with self.subTest(scenario.name):
                rows = {name: Row(dict(figures)) for name in names}
                expected = "missed" if scenario.name == "cpu-two" else "ok"
                self.assertEqual(scenario.judge(rows).outcome, expected)
                self.assertEqual(scenario.judge({}).outcome, "not measured")


if __name__ == "__main__":
    unittest.main()
