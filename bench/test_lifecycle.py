"""Tests of how lifecycle.py reads what the tests write.

    python3 -m unittest discover bench
"""

import unittest

import lifecycle

OUTPUT = """
running 1 test
test lifecycle::killed_workers_under_load ... figure: kills: requests: 2157
figure: kills: slowest answer ms: 405
ok

test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 316 filtered out; finished in 5.25s
"""


class LifecycleTest(unittest.TestCase):
    def test_figures(self) -> None:
        self.assertEqual(lifecycle.figures_of(OUTPUT), [("requests", "2157"), ("slowest answer ms", "405")])

    def test_only_a_test_that_ran_has_passed(self) -> None:
        self.assertIsNotNone(lifecycle.PASSED.search(OUTPUT))
        self.assertIsNone(lifecycle.PASSED.search(OUTPUT.replace("ok. 1 passed", "ok. 0 passed")))

    def test_every_run_has_a_line(self) -> None:
        runs = [
            lifecycle.Run("lifecycle::a_b", True, 1.0, [("x", "1"), ("y", "2")]),
            lifecycle.Run("proxies::c", False, 1.0, []),
        ]
        lines = lifecycle.table(runs)[1:]
        self.assertEqual(lines, [["a b", "ok", "x", "1"], ["", "", "y", "2"], ["c", "FAILED", "–", "–"]])


if __name__ == "__main__":
    unittest.main()
