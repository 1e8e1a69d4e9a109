"""What bench.py and ab.py share. Each module is one topic; imports point down only:

session                   what the two command lines have in common
report, plot, targets     results -> text, SVG, verdicts; no measuring
measure                   servers x workloads -> results: start, check, interleaved rounds
processes, load, client   one server process, one wrk run, one checked exchange
servers, workloads        the two tables: whom we start and how, what they are asked
environment               what has to be on the machine before: venv, floor, tools
"""
