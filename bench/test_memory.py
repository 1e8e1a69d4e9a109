"""Tests of what memory.py makes of what it has measured. No wrk, no peer and no minicorn is needed.

    python3 -m unittest discover bench
"""

import unittest

import memory
from harness.client import Wrong
from memory import MIB, PEER, PLAIN, PRELOADED, RELOADED, Weight, Weighed

SECOND = 10**9


def weighed(*totals: float) -> Weighed:
    return Weighed([Weight(MIB, 0, [int((total - 1) * MIB / 4)] * 4) for total in totals], [9_000] * len(totals))


class RolesTest(unittest.TestCase):
    def test_the_template_is_the_one_that_does_nothing(self) -> None:
        used = {11: SECOND, 12: 0, 13: SECOND, 14: SECOND, 15: SECOND}
        template, workers = memory.roles(used, has_template=True)
        self.assertEqual((template, sorted(workers)), (12, [11, 13, 14, 15]))

    def test_without_a_template_all_are_workers(self) -> None:
        template, workers = memory.roles({11: 4, 12: 3, 13: 2, 14: 1}, has_template=False)
        self.assertEqual((template, workers), (None, [14, 13, 12, 11]))

    def test_a_worker_too_few_or_one_without_load_is_not_weighed(self) -> None:
        for used, has_template in (
            ({11: SECOND, 12: SECOND, 13: SECOND}, False),
            ({11: SECOND, 12: SECOND, 13: SECOND, 14: SECOND}, True),
            ({11: SECOND, 12: SECOND, 13: SECOND, 14: 0}, False),
            ({}, True),
        ):
            with self.subTest(used), self.assertRaises(Wrong):
                memory.roles(used, has_template)


class TablesTest(unittest.TestCase):
    def test_the_median_counts(self) -> None:
        table = memory.weight_table({PLAIN: weighed(80, 100, 90)})
        self.assertEqual(table[1], [PLAIN, "90.0", "1.0", "–", "22.2", "9,000", ""])

    def test_bars(self) -> None:
        for ours, outcomes in ((45, ["ok", "ok"]), (51, ["ok", "missed"]), (61, ["missed", "missed"])):
            with self.subTest(ours):
                results = {PLAIN: weighed(100), PRELOADED: weighed(45), RELOADED: weighed(ours), PEER: weighed(56)}
                self.assertEqual([row[-1] for row in memory.verdict_table(results)[1:]], ["ok", "ok", *outcomes])
                results = {PLAIN: weighed(100), PRELOADED: weighed(ours), RELOADED: weighed(45), PEER: weighed(56)}
                self.assertEqual([row[-1] for row in memory.verdict_table(results)[1:]], [*outcomes, "ok", "ok"])

    def test_what_fails_is_not_compared(self) -> None:
        results = {PLAIN: weighed(100), PRELOADED: weighed(45), PEER: Weighed(fails="no gunicorn"), RELOADED: Weighed()}
        outcomes = ["ok", "not measured", "not measured", "not measured"]
        self.assertEqual([row[-1] for row in memory.verdict_table(results)[1:]], outcomes)
        self.assertEqual(memory.weight_table(results)[3][-1], "fails: no gunicorn")


if __name__ == "__main__":
    unittest.main()
