"""Tests of what scrape.py measures with. No wrk and no minicorn is needed.

    python3 -m unittest discover bench
"""

import socket
import threading
import time
import unittest

import scrape
from harness.client import Wrong
from scrape import SCRAPED, UNWATCHED, WATCHED, Row, Scraper

GOOD = b"minicorn_requests_total 1\n"
WAIT_SECONDS_MAX = 10


def answer(body: bytes, length: int | None = None, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body) if length is None else length, body)


class OnSocket(unittest.TestCase):
    """A server that gives everybody the same answer."""

    def serve(self, response: bytes) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)

        def run() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(4096)
                    connection.sendall(response)

        threading.Thread(target=run, daemon=True).start()
        return listener.getsockname()[1]


class ScrapeTest(OnSocket):
    def test_takes_what_is_whole_and_nothing_else(self) -> None:
        self.assertEqual(scrape.scrape(self.serve(answer(GOOD))), GOOD)
        for response in (answer(b""), answer(GOOD, 99), answer(GOOD, status=b"503 No"), b"", answer(b"other_total 1\n")):
            with self.subTest(response), self.assertRaises(Wrong):
                scrape.scrape(self.serve(response))

    def test_a_scraper_keeps_its_pace_and_tells_of_failures(self) -> None:
        scraper = Scraper(self.serve(answer(GOOD)), pace=200)
        started = time.monotonic()
        scraper.start()
        while len(scraper.times) < 20 and time.monotonic() - started < WAIT_SECONDS_MAX:
            time.sleep(0.01)
        scraper.stop()
        self.assertEqual(scraper.failure, "")
        self.assertGreaterEqual(len(scraper.times), 20)
        # Twenty of them cannot have come faster.
        self.assertGreaterEqual(time.monotonic() - started, 19 / 200)
        broken = Scraper(self.serve(b""))
        broken.start()
        broken.join(WAIT_SECONDS_MAX)
        self.assertIn("a scrape failed", broken.failure)


class TablesTest(unittest.TestCase):
    def test_bars(self) -> None:
        for scraped, outcome in ((99.0, "ok"), (97.0, "missed")):
            with self.subTest(scraped):
                rows = {UNWATCHED: Row([100.0] * 3), WATCHED: Row([100.0] * 3), SCRAPED: Row([scraped] * 3, [50.0], [1.0])}
                table = scrape.verdict_table(rows)
                self.assertEqual([row[-1] for row in table[1:]], [outcome, "ok"])

    def test_what_failed_or_was_not_scraped_enough_is_not_compared(self) -> None:
        row, scraper = Row([100.0]), Scraper(0)
        scraper.times = [0.001] * 40
        scrape.note_scrapes(row, scraper, seconds=1.0)
        self.assertEqual(row.failures, ["only 40 scrapes/s"])
        rows = {UNWATCHED: Row([100.0]), WATCHED: Row([100.0]), SCRAPED: row}
        self.assertEqual([line[-1] for line in scrape.verdict_table(rows)[1:]], ["not measured", "ok"])
        self.assertIn("only 40", scrape.rows_table(rows)[3][-1])


if __name__ == "__main__":
    unittest.main()
