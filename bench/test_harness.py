"""Tests of the benchmark itself: a number is only worth what the program that made it is. Real processes and sockets;
no wrk and no peer is needed, so that they run wherever a C compiler is.

    python3 -m unittest discover bench
"""

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import xml.etree.ElementTree
from contextlib import ExitStack
from pathlib import Path

from harness import plot, report
from harness.client import Verdict, Wrong, check
from harness.environment import BENCH, FLOOR, Missing, build_floor
from harness.load import Load, parse_result
from harness.measure import Cell, Footprint, Plan, Round, first_response_ms, start, wait_for_connection
from harness.processes import Memory, ServerProcess, free_port, process_cpu_ns, schedstat_ns
from harness.servers import HELLO_ONLY, Server, floor
from harness.session import parse_cores, pick
from harness.targets import TARGETS, Results, judge, verdicts
from harness.workloads import HELLO, PLAIN, WORKLOADS, Workload

BY_NAME = {workload.name: workload for workload in WORKLOADS}


def cell(cpu_us: float, **marks) -> Cell:
    load = Load(requests=1000, seconds=1.0, p50_ms=1.0, p99_ms=2.0, errors={})
    return Cell([Round(load, cpu_us)], **marks)


class OnServer(unittest.TestCase):
    """A folder for what servers print, and a plan on the first core."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.plan = Plan(rounds=1, seconds=1, starts=1, server_core=0, load_core=0, folder=self.folder)

    def run_code(self, code: str) -> ServerProcess:
        return ServerProcess([sys.executable, "-c", code], free_port(), 0, self.folder / "output")


class FloorTest(OnServer):
    def setUp(self) -> None:
        super().setUp()
        build_floor()
        self.server = Server("floor", floor)

    def test_does_its_workloads_right(self) -> None:
        for name in HELLO_ONLY:
            with self.subTest(name), start(self.server, BY_NAME[name], self.plan) as process:
                wait_for_connection(process)
                self.assertEqual(check(process.port, BY_NAME[name]), Verdict())

    def test_waits_for_the_end_of_a_head_that_comes_byte_by_byte(self) -> None:
        with start(self.server, BY_NAME["hello"], self.plan) as process:
            wait_for_connection(process)
            with socket.create_connection(("127.0.0.1", process.port), timeout=10) as client:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for byte in PLAIN:
                    client.sendall(bytes([byte]))
                self.assertTrue(client.recv(4096).endswith(b"\r\n\r\n" + HELLO))

    def test_is_asked_only_for_what_it_can_do(self) -> None:
        with start(self.server, BY_NAME["echo"], self.plan) as process:
            wait_for_connection(process)
            with self.assertRaises(Wrong):
                check(process.port, BY_NAME["echo"])

    def test_says_when_its_port_is_taken(self) -> None:
        with start(self.server, BY_NAME["hello"], self.plan) as process:
            wait_for_connection(process)
            second = subprocess.run([FLOOR, str(process.port)], capture_output=True, text=True, timeout=10)
        self.assertEqual(second.returncode, 1)
        self.assertIn("Address already in use", second.stderr)


GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nHello, World!"
CLOSING = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nHello, World!"


class CheckTest(OnServer):
    """Answers that a load generator would have counted."""

    def verdict_on(self, *connections: list, workload: Workload = BY_NAME["hello"], closes: bool = True) -> Verdict:
        """What `check` says of a server with these answers: a list for each connection, an item for each request."""
        listener = socket.create_server(("127.0.0.1", 0))
        checked = threading.Event()
        answering = threading.Thread(target=give_answers, args=(listener, connections, closes, checked))
        answering.start()
        self.addCleanup(answering.join)
        self.addCleanup(checked.set)
        return check(listener.getsockname()[1], workload)

    def assert_fails(self, expected: str, *connections: list, **how) -> None:
        with self.assertRaises(Wrong) as caught:
            self.verdict_on(*connections, **how)
        self.assertIn(expected, str(caught.exception))

    def test_right_answers_pass(self) -> None:
        chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nHello,\r\n7\r\n World!\r\n0\r\n\r\n"
        self.assertEqual(self.verdict_on([GOOD, chunked], [GOOD]), Verdict())

    def test_one_connection_for_each_request_is_a_remark(self) -> None:
        self.assertEqual(self.verdict_on([CLOSING]), Verdict(remark="closes each connection"))

    def test_a_second_client_that_waits_is_a_flaw(self) -> None:
        self.assertIn("the other 63 wait", self.verdict_on([GOOD, GOOD], [], closes=False).flaw)

    def test_wrong_status(self) -> None:
        self.assert_fails("status 500", [b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"])

    def test_wrong_body(self) -> None:
        self.assert_fails("a body of 3 bytes", [b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nHel"])

    def test_body_cut_short(self) -> None:
        self.assert_fails("was closed", [GOOD[:-1]])

    def test_no_http(self) -> None:
        self.assert_fails("a status line", [b"SSH-2.0-x\r\n\r\n"])

    def test_lost_pipelined_requests(self) -> None:
        self.assert_fails("1 of 16 answers", [GOOD], workload=BY_NAME["pipeline"])
        self.assert_fails("closed after 1 of 16", [CLOSING], workload=BY_NAME["pipeline"])

    def test_connection_close_ignored(self) -> None:
        self.assert_fails("Connection: close is ignored", [GOOD], workload=BY_NAME["close"], closes=False)

    def test_chunks_held_back(self) -> None:
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BY_NAME["generator"].body), BY_NAME["generator"].body)
        # The second connection is the one that asks for /slow.
        slow = head + b"b\r\nfirstsecond\r\n0\r\n\r\n"
        self.assertIn("holds chunks back", self.verdict_on([head + body], [slow], workload=BY_NAME["generator"]).flaw)


def give_answers(listener: socket.socket, connections: tuple, closes: bool, checked: threading.Event) -> None:
    with ExitStack() as stack:
        stack.enter_context(listener)
        for answers in connections:
            connection = stack.enter_context(listener.accept()[0])
            for answer in answers:
                connection.recv(65536)
                connection.sendall(answer)
            if closes:
                connection.close()
        checked.wait(timeout=60)


class ProcessTest(OnServer):
    def test_cpu_clock_agrees_with_schedstat(self) -> None:
        with self.run_code("while True: pass") as process:
            time.sleep(0.3)
            listed, clock = schedstat_ns(process.master), process_cpu_ns(process.master)
        # schedstat lags by up to a scheduler tick while the thread runs.
        self.assertAlmostEqual(listed / 1e6, clock / 1e6, delta=30)
        self.assertGreater(clock, 50e6)

    def test_counts_threads_that_have_ended(self) -> None:
        short_lived = "thread = threading.Thread(target=sum, args=(range(5_000_000),)); thread.start(); thread.join()"
        with self.run_code(f"import threading, time; {short_lived}; time.sleep(60)") as process:
            poll_until(lambda: process.cpu_ns() - schedstat_ns(process.master) > 20e6)

    def test_counts_grandchildren_and_ends_them(self) -> None:
        child = "import os, time; os.fork(); time.sleep(60)"
        with self.run_code(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])") as process:
            poll_until(lambda: len(process.pids()) == 3)
            pids = process.pids()
            self.assertEqual(process.memory().processes, 3)
        poll_until(lambda: not any(Path("/proc", str(pid)).exists() for pid in pids))

    def test_ends_a_server_that_ignores_term(self) -> None:
        deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True)"
        with self.run_code(f"import signal, time; {deaf}; time.sleep(60)") as process:
            poll_until(lambda: process.last_output() == "up")
            pid = process.master
        self.assertFalse(Path("/proc", str(pid)).exists())

    def test_a_server_that_ends_at_once_is_reported_with_its_last_line(self) -> None:
        with self.run_code("import sys; sys.exit('no such app')") as process, self.assertRaises(Wrong) as caught:
            first_response_ms(process, BY_NAME["hello"])
        self.assertIn("no such app", str(caught.exception))


def poll_until(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("did not happen within 10 s")
        time.sleep(0.01)


class StreamingTest(OnServer):
    def test_wsgiref_sends_each_chunk_at_once(self) -> None:
        def command(launch) -> list:
            return [sys.executable, str(BENCH / "serve.py"), "wsgiref", launch.app, str(launch.port)]

        with start(Server("wsgiref", command), BY_NAME["generator"], self.plan) as process:
            wait_for_connection(process)
            self.assertEqual(check(process.port, BY_NAME["generator"]).flaw, "")


class OptionsTest(unittest.TestCase):
    def test_picks_in_the_order_of_the_tables(self) -> None:
        self.assertEqual([workload.name for workload in pick(WORKLOADS, "flask,hello", "workload")], ["hello", "flask"])
        self.assertEqual(pick(WORKLOADS, None, "workload"), WORKLOADS)

    def test_names_what_it_does_not_know(self) -> None:
        with self.assertRaisesRegex(Missing, "no workload is called 'helo'; there are hello, browser"):
            pick(WORKLOADS, "hello,helo", "workload")

    def test_cores_are_two_that_this_process_may_use(self) -> None:
        usable = min(os.sched_getaffinity(0))
        for text in ("", "0", "a,b", f"{usable},{usable}", f"{usable},100000", f"{usable},-1"):
            with self.subTest(text), self.assertRaisesRegex(Missing, "two different cores"):
                parse_cores(text)


class ResultsTest(unittest.TestCase):
    def setUp(self) -> None:
        self.results = Results(
            {
                "hello": {"floor": cell(5.0), "minicorn": cell(5.5), "bjoern": cell(8.0), "fastwsgi": cell(7.0)},
                "pipeline": {"minicorn": cell(1.0), "bjoern": Cell(fails="1 of 16 answers")},
                "generator": {
                    "minicorn": cell(200.0),
                    "bjoern": cell(300.0),
                    "fastwsgi": cell(150.0, flaws=["holds back"]),
                },
                "flask": {"minicorn": cell(40.0)},
            },
            {
                "minicorn": Footprint(50.0, Memory(6_000_000, 2_000_000, 2)),
                "bjoern": Footprint(20.0, Memory(5_000_000, 5_000_000, 1)),
            },
            frozenset({"bjoern", "fastwsgi"}),
        )

    def test_verdicts(self) -> None:
        outcomes = {verdict.what: (verdict.measured, verdict.outcome) for verdict in verdicts(self.results)}
        self.assertEqual(outcomes["hello: CPU against the floor"], ("1.100 × floor", "ok"))
        self.assertEqual(outcomes["hello: CPU against the better of bjoern and fastwsgi"], ("0.786 × fastwsgi", "ok"))
        self.assertEqual(outcomes["PSS, master and one worker, against bjoern's one process"], ("1.200 × bjoern", "ok"))
        self.assertEqual(outcomes["start to first response"], ("50.000 ms", "ok"))

    def test_a_flawed_or_failing_peer_is_nobody_to_compare_with(self) -> None:
        outcomes = {verdict.what: verdict for verdict in verdicts(self.results)}
        self.assertEqual(outcomes["generator: CPU against the best peer"].measured, "0.667 × bjoern")
        self.assertEqual(outcomes["16-deep pipelining: CPU against fastwsgi"].outcome, "not measured")

    def test_a_server_left_out_of_the_run_leaves_its_targets_open(self) -> None:
        del self.results.cells["hello"]["fastwsgi"]
        outcomes = {verdict.what: verdict.outcome for verdict in verdicts(self.results)}
        self.assertEqual(outcomes["hello: CPU against the better of bjoern and fastwsgi"], "not measured")
        self.assertEqual(outcomes["hello: CPU against the floor"], "ok")

    def test_flawed_numbers_of_minicorn_meet_no_target(self) -> None:
        self.results.cells["hello"]["minicorn"].flaws.append("wrk saw errors: 1 read")
        self.assertEqual(verdicts(self.results)[0].outcome, "not measured")

    def test_limits(self) -> None:
        self.assertEqual(judge(TARGETS[0], 1.18, "floor").outcome, "ok")
        self.assertEqual(judge(TARGETS[0], 1.181, "floor").outcome, "miss")

    def test_every_target_names_workloads_and_servers_that_exist(self) -> None:
        everything = {
            name: {server: cell(1.0) for server in ("minicorn", "floor", "bjoern", "fastwsgi", "gunicorn-gthread")}
            for name in BY_NAME
        }
        results = Results(everything, self.results.footprints, frozenset({"bjoern"}))
        self.assertNotIn("not measured", [verdict.outcome for verdict in verdicts(results)])

    def test_cpu_is_the_least_of_the_rounds_and_the_rest_their_median(self) -> None:
        rounds = [
            Round(Load(requests, 1.0, 1.0, 2.0, {}), cpu) for requests, cpu in ((100, 9.0), (300, 7.0), (200, 8.0))
        ]
        self.assertEqual((Cell(rounds).cpu_us, Cell(rounds).cpu_us_median, Cell(rounds).per_second), (7.0, 8.0, 200.0))

    def test_tables_show_ratios_marks_and_failures(self) -> None:
        table = report.workload_table(BY_NAME["hello"], self.results.cells["hello"])
        self.assertEqual(table[3][:3], ["bjoern", "8.00", "1.45"])
        matrix = report.markdown(self.results, verdicts(self.results), "header")
        self.assertIn("| bjoern | 8.0 (1.45) | fails | – | 300 (1.50) |", matrix)
        self.assertIn("fastwsgi (generator) holds back", matrix)

    def test_the_plot_is_xml_with_one_bar_for_each_sound_number(self) -> None:
        svg = xml.etree.ElementTree.fromstring(plot.render(self.results))
        self.assertEqual(len(svg.findall("{http://www.w3.org/2000/svg}rect")), 5)

    def test_what_wrk_lua_prints_is_read(self) -> None:
        line = (
            '{"requests": 10, "microseconds": 2000000, "bytes": 1, "p50_us": 1500, "p99_us": 2500, '
            '"connect": 0, "read": 3, "write": 0, "status": 0, "timeout": 0}'
        )
        load = parse_result(line)
        self.assertEqual((load.per_second, load.p50_ms, load.p99_ms, load.errors), (5.0, 1.5, 2.5, {"read": 3}))


if __name__ == "__main__":
    unittest.main()
